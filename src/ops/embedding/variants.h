// The variants of embedding; the table in embedding.cc lists them.
#pragma once

#include "ops/embedding/embedding.h"

namespace llamita {

void embedding_reference(const EmbeddingArgs& args, Context& context);

}  // namespace llamita
