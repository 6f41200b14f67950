// The variants of decoder_layers; the table in decoder_layers.cc lists them.
#pragma once

#include "ops/decoder_layers/decoder_layers.h"

namespace llamita {

void decoder_layers_composition(const DecoderLayersArgs& args, Context& context);  // on any device

// Compute capability 9.0, bf16, one token.
void decoder_layers_persistent_sm90(const DecoderLayersArgs& args, Context& context);
bool decoder_layers_persistent_sm90_supports(const DecoderLayersArgs& args, const Caps& caps);
double decoder_layers_persistent_sm90_us(const DecoderLayersArgs& args, const Caps& caps);

}  // namespace llamita
