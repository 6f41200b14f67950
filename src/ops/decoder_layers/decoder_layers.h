// decoder_layers: all layers of a Llama-like decoder for one step in one op: for each layer
//   x += out · attention(rope(norm(x) · qkv))      x += down · (silu(norm(x) · gate) * (norm(x) · up))
// What a step of single tokens costs between the kernels of a layer is as much as half of its bytes cost, so
// one kernel for all of them is worth an op. Steps that no such variant serves are for the model to compose.
#pragma once

#include <span>

#include "ops/attention/plan.h"
#include "ops/op.h"
#include "quant/kv_format.h"
#include "quant/weight.h"

namespace llamita {

// Members that are undefined are steps the model does not have.
struct DecoderLayer {
  Tensor attn_norm, mlp_norm;              // (C) f32
  const quant::Weight* qkv = nullptr;      // ((H + 2 Hkv) D, C), rows q | k | v
  Tensor qkv_bias;                         // ((H + 2 Hkv) D) f32 or undefined
  Tensor q_norm, k_norm;                   // (D) f32 each, or both undefined
  const quant::Weight* out = nullptr;      // (C, H D)
  const quant::Weight* gate_up = nullptr;  // (2F, C), rows gate | up
  const quant::Weight* down = nullptr;     // (C, F)
  Tensor k_cache, v_cache;                 // (pages, Hkv, kPageTokens, D)
  int window = 0;                          // keys a token sees including itself; 0: all
};

struct DecoderLayersArgs {
  Tensor x;            // (T, C) f32, the residual stream, in place
  Tensor cos_sin;      // (T, D) f32 from rope_table
  Tensor kv_slot;      // (T) i64
  Tensor q_start;      // (B+1) i32
  Tensor kv_len;       // (B) i32
  Tensor block_table;  // (B, max_blocks) i32
  const AttentionPlan* plan = nullptr;
  float norm_eps = 1e-5f;
  int64_t heads = 0;
  std::span<const DecoderLayer> layers;
};

const Op<DecoderLayersArgs>& decoder_layers_op();
inline void decoder_layers(const DecoderLayersArgs& args, Context& context) {
  run(decoder_layers_op(), args, context);
}

// Whether one variant does it all: the composition is no better than composing.
bool decoder_layers_fused(const DecoderLayersArgs& args, const Context& context);

}  // namespace llamita
