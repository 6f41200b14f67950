// RequestPreparer: a request as people write it becomes one that the engine serves: its prompt is rendered
// and tokenised, its options are checked, its form is compiled. Whatever may fail or take long happens here,
// on any thread, and never in the step loop.
#pragma once

#include "engine/engine.h"
#include "engine/grammar_cache.h"
#include "engine/image_preparer.h"
#include "engine/prompt_encoder.h"
#include "llamita/request.h"

namespace llamita {

class RequestPreparer {
 public:
  // Borrows all but `config`. `images` is null for a model that takes none.
  RequestPreparer(const Tokenizer& tokenizer, const PromptEncoder& encoder, const Engine& engine,
                  const EngineConfig& config, const ImagePreparer* images = nullptr);

  // Throws Error (RequestError, where it says more) for a request that cannot be served. Thread-safe, also
  // while the engine steps.
  TokenRequest prepare(const Request& request) const;

 private:
  const PromptEncoder& encoder_;
  const Engine& engine_;
  const ImagePreparer* images_;
  mutable GrammarCache grammars_;
};

}  // namespace llamita
