// Names of weights: Hugging Face's checkpoints on one side, GGUF's on the other.
#pragma once

#include <string>
#include <string_view>

namespace llamita {

// "model.layers.3.self_attn.q_proj.weight" -> "blk.3.attn_q.weight". A name without a GGUF counterpart is
// returned as it is.
std::string gguf_name(std::string_view name);

}  // namespace llamita
