#include "engine/request_preparer.h"

#include "llamita/error.h"

namespace llamita {

RequestPreparer::RequestPreparer(const Tokenizer& tokenizer, const PromptEncoder& encoder,
                                 const Engine& engine)
    : encoder_(encoder),
      engine_(engine),
      grammars_(tokenizer, engine.choosable_tokens(), engine.stop_tokens()) {}

TokenRequest RequestPreparer::prepare(const Request& request) const {
  TokenRequest out;
  out.prompt = encoder_.encode(request);
  out.sampling = request.sampling;
  out.embedding = request.embedding;
  engine_.check(out);
  if (!request.embedding) out.form = grammars_.find(request.sampling.constraint);
  return out;
}

}  // namespace llamita
