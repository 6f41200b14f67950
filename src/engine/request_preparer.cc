#include "engine/request_preparer.h"

#include "engine/validate.h"
#include "llamita/request_error.h"

namespace llamita {

RequestPreparer::RequestPreparer(const Tokenizer& tokenizer, const PromptEncoder& encoder,
                                 const Engine& engine, const EngineConfig& config,
                                 const ImagePreparer* images)
    : encoder_(encoder),
      engine_(engine),
      images_(images),
      grammars_(tokenizer, engine.choosable_tokens(), engine.stop_tokens(), config.schema_work) {}

namespace {

std::vector<Picture> pictures_of(const Request& request) {
  std::vector<Picture> pictures = request.pictures;
  if (const auto* conversation = std::get_if<Conversation>(&request.prompt)) {
    for (const Message& message : *conversation)
      pictures.insert(pictures.end(), message.pictures.begin(), message.pictures.end());
  }
  return pictures;
}

std::shared_ptr<grammar::MaskCache> compile(GrammarCache& grammars, const Constraint& constraint) {
  try {
    return grammars.find(constraint);
  } catch (const GrammarTooCostly&) {
    throw;
  } catch (const Error& error) {
    throw RequestError(RequestError::Fault::form, error.what());
  }
}

}  // namespace

TokenRequest RequestPreparer::prepare(const Request& request) const {
  const std::vector<Picture> pictures = pictures_of(request);
  if (images_ == nullptr && !pictures.empty()) throw Error("this model takes no images: ask in words alone");
  TokenRequest out;
  out.prompt = encoder_.encode(request);
  if (images_ != nullptr) {
    // A prompt that is too long is refused before its pictures cost anything.
    validate_length(images_->placed_tokens(pictures, out.prompt), engine_.context());
    out.images = images_->place(pictures, out.prompt);
  }
  out.sampling = request.sampling;
  out.embedding = request.embedding;
  engine_.check(out);
  if (!request.embedding) out.form = compile(grammars_, request.sampling.constraint);
  return out;
}

}  // namespace llamita
