// attention: scaled dot-product attention with grouped query heads over a paged cache, for any mix of prefill
// chunks and decode tokens. Keys and values are read only through the block table.
//   token t of sequence b stands at position p = kv_len[b] - (q_start[b+1] - t) and sees keys
//   max(0, p+1-window) .. p; without `causal`, all keys 0 .. kv_len[b]-1
// Method: online softmax (Milakov and Gimelshein 2018; FlashAttention, Dao et al. 2022): one pass over the
// keys. Reduction order: keys in pages at absolute positions, pages merged in ascending order into partitions
// of kPartitionKeys (kernels.h) at absolute positions, and these in ascending order, one query row and head
// at a time, so the result is the same for prefill, decode, any chunking, any batch and any number of
// threads. Of an int8 cache a page's products are sums of integers, exact in any order. On a GPU the order
// follows from the launch: T, B and the plan's bounds; in paged_decode_sm90 from the lengths of the step. On
// a GPU q_start, kv_len and block_table are read on the device; of the plan only its bounds matter. These
// three, and the keys and values of tokens before the step's own, may be read while the kernel before this
// one in the stream still runs (PDL): that kernel must not write them. q and the step's own keys it may.
#pragma once

#include "ops/attention/plan.h"
#include "ops/op.h"
#include "quant/kv_format.h"

namespace llamita {

struct AttentionArgs {
  Tensor q;            // (T, H, D) f32, on a GPU also bf16 or f16; tokens may be strided
  Tensor k_cache;      // (pages, Hkv, kPageTokens, D) f32, f16, bf16, or on a CPU i8; H % Hkv == 0
  Tensor v_cache;      // the same
  Tensor q_start;      // (B+1) i32
  Tensor kv_len;       // (B) i32
  Tensor block_table;  // (B, max_blocks) i32: page of each kPageTokens keys
  const AttentionPlan* plan = nullptr;
  float scale = 1;
  int window = 0;      // keys a token sees including itself; 0: all
  bool causal = true;  // false: every token sees every key of its sequence, and there is no window
  Tensor out;          // (T, H, D) f32, on a GPU also bf16 or f16
};

const Op<AttentionArgs>& attention_op();
inline void attention(const AttentionArgs& args, Context& context) { run(attention_op(), args, context); }

}  // namespace llamita
