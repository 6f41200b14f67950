// The variants of patch_embed; the table in patch_embed.cc lists them.
#pragma once

#include "ops/patch_embed/patch_embed.h"

namespace llamita {

void patch_embed_reference(const PatchEmbedArgs& args, Context& context);
void patch_embed_cuda(const PatchEmbedArgs& args, Context& context);

}  // namespace llamita
