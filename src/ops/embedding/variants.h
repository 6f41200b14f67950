// The variants of embedding; the table in embedding.cc lists them.
#pragma once

#include "ops/embedding/embedding.h"

namespace llamita {

void embedding_reference(const EmbeddingArgs& args, Context& context);

void embedding_cuda(const EmbeddingArgs& args, Context& context);
bool embedding_cuda_supports(const EmbeddingArgs& args);

}  // namespace llamita
