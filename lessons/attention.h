// The problem of the attention ladder and its steps: O = softmax(scale Q K^T) V for each head, bf16 in and
// out, fp32 inside. All tensors are dense; head h of Q reads head h / (heads / kv_heads) of K and V. Causal:
// query t sees keys 0..t.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace llamita::lessons {

struct Attention {
  const __nv_bfloat16* q;  // (B, T, H, D)
  const __nv_bfloat16* k;  // (B, T, Hkv, D)
  const __nv_bfloat16* v;  // (B, T, Hkv, D)
  __nv_bfloat16* out;      // (B, T, H, D)
  int batch;
  int tokens;
  int heads;
  int kv_heads;  // divides heads
  int dim;       // 64 or 128
  bool causal;
  float scale;
};

struct AttentionContext {
  cudaStream_t stream;
  int sm_count;
  size_t l2_bytes;
  float* workspace;   // step 03's: B T H (D + 2) floats, any contents
  uint32_t* tickets;  // step 05's: two counters, zero before the first launch and again after each
};

struct AttentionLesson {
  const char* name;
  const char* idea;
  bool sm90a;
  bool workspace;
  double slow_gflop;  // larger problems than this take too long to be worth the wait
  void (*run)(const Attention&, const AttentionContext&);
};

std::span<const AttentionLesson> attention_lessons();

void attention_01_naive(const Attention&, const AttentionContext&);
void attention_02_online_softmax(const Attention&, const AttentionContext&);
void attention_03_flash1(const Attention&, const AttentionContext&);
void attention_04_flash2(const Attention&, const AttentionContext&);
void attention_05_flash3(const Attention&, const AttentionContext&);

}  // namespace llamita::lessons
