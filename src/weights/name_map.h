// Names of weights: Hugging Face's checkpoints on one side, GGUF's on the other.
#pragma once

#include <string>
#include <string_view>

namespace llamita {

// "model.layers.3.self_attn.q_proj.weight" -> "blk.3.attn_q.weight". A name without a GGUF counterpart is
// returned as it is.
std::string gguf_name(std::string_view name);

// A LLaVA checkpoint's name without what says in which transformers it was written: the language model's
// weights are called as a Llama's ("model.layers.0…", "lm_head…"), the others "vision_tower…" and
// "multi_modal_projector…". transformers 5 writes "model.language_model.…" where older ones wrote
// "language_model.model.…".
std::string llava_name(std::string_view name);

}  // namespace llamita
