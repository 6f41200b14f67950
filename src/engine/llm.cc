// LLM: the public face for one caller.
#include "llamita/llm.h"

#include "engine/served_model.h"
#include "llamita/request_error.h"

namespace llamita {

const char* name(FinishReason reason) {
  switch (reason) {
    case FinishReason::stop: return "stop";
    case FinishReason::length: return "length";
    case FinishReason::cancelled: return "cancelled";
    case FinishReason::error: return "error";
    case FinishReason::deadline: return "deadline";
  }
  return "";
}

struct LLM::Impl {
  std::unique_ptr<ServedModel> served;
};

LLM LLM::load(const std::string& path, const EngineConfig& config, const Progress& progress) {
  return LLM(std::make_unique<Impl>(Impl{ServedModel::load(path, config, progress)}));
}

LLM::LLM(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LLM::~LLM() = default;
LLM::LLM(LLM&&) noexcept = default;
LLM& LLM::operator=(LLM&&) noexcept = default;

std::vector<Completion> LLM::generate(const std::vector<Request>& requests, const Stream& stream,
                                      const CancelToken* cancel) {
  std::vector<TokenRequest> prepared;
  for (const Request& request : requests) {
    try {
      prepared.push_back(impl_->served->preparer.prepare(request));
    } catch (const Error& error) {
      const auto* known = dynamic_cast<const RequestError*>(&error);
      const bool too_long = known != nullptr && known->fault() == RequestError::Fault::prompt_size;
      prepared.push_back({{}, request.sampling, error.what(), request.embedding});
      if (too_long) prepared.back().error_code = kContextLengthExceeded;
    }
  }
  return impl_->served->engine.generate(prepared, stream, cancel);
}

const ModelInfo& LLM::info() const { return impl_->served->info; }

std::vector<int32_t> LLM::tokenize(std::string_view text, bool add_special) const {
  return impl_->served->tokenizer->encode(text, add_special, false);
}

std::string LLM::detokenize(const std::vector<int32_t>& tokens) const {
  return impl_->served->tokenizer->decode(tokens, false);
}

std::string LLM::render_chat(const Conversation& conversation) const {
  std::string text;
  for (const Piece& piece : impl_->served->encoder.render(conversation)) text += piece.text;
  return text;
}

}  // namespace llamita
