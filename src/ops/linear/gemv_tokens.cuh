// How the ring's kernels (gemv_ring_sm90.cuh) bring up to eight tokens to shared memory: normed, or as they
// are. Either waits for the predecessor where it must.
#pragma once

#include "ops/linear/gemv.cuh"

namespace llamita::device {

// The warps are dealt to the tokens in teams, so that eight take little longer than one. The order of a
// norm's sum depends on the size of the team, and so on the number of tokens: 1, 2, 3 to 4, 5 to 8.
struct TokenTeam {
  int warps;  // 8, 4, 2 or 1
  int token, thread;

  __device__ __forceinline__ explicit TokenTeam(int tokens)
      : warps(tokens == 1   ? 8
              : tokens == 2 ? 4
              : tokens <= 4 ? 2
                            : 1),
        token(static_cast<int>(threadIdx.x) / 32 / warps),
        thread(static_cast<int>(threadIdx.x) % (32 * warps)) {}

  // The sum over the team's threads, in all of them, in an order that depends on its size alone. All teams
  // call it.
  __device__ __forceinline__ float sum(float x, float (&team_sums)[kGemvWarps]) const {
    x = warp_sum(x);
    __syncthreads();  // the sums of an earlier call have been read
    if (threadIdx.x % 32 == 0) team_sums[threadIdx.x / 32] = x;
    __syncthreads();
    float total = 0;
    for (int w = 0; w < warps; ++w) total += team_sums[token * warps + w];
    return total;
  }
};

// Norms the rows of x (T, K) f32 into shared memory. Sixteen elements a thread stay in registers; what does
// not fit is read again.
template <class Element>
__device__ __forceinline__ void stage_normed(Element* staged, const float* x, int64_t stride, int tokens,
                                             int K, const GemvNorm& norm, float (&team_sums)[kGemvWarps]) {
  constexpr int kHeld = 4;
  const TokenTeam team(tokens);
  const int step = 32 * team.warps, vectors = team.token < tokens ? K / 4 : 0;
  const auto* gain = reinterpret_cast<const float4*>(norm.weight);
  const auto* offset = reinterpret_cast<const float4*>(norm.bias);
  float4 held_gain[kHeld], held[kHeld];
#pragma unroll
  for (int i = 0; i < kHeld; ++i)
    if (team.thread + i * step < vectors) held_gain[i] = __ldg(gain + team.thread + i * step);
  wait_for_predecessor();
  const auto* row = reinterpret_cast<const float4*>(x + team.token * stride);
#pragma unroll
  for (int i = 0; i < kHeld; ++i)
    if (team.thread + i * step < vectors) held[i] = __ldcg(row + team.thread + i * step);
  const auto each = [&](auto&& f) {
#pragma unroll
    for (int i = 0; i < kHeld; ++i)
      if (team.thread + i * step < vectors) f(team.thread + i * step, held[i], held_gain[i]);
#pragma unroll 8
    for (int at = team.thread + kHeld * step; at < vectors; at += step)
      f(at, __ldcg(row + at), __ldg(gain + at));
  };
  float mean = 0;
  if (norm.kind == NormKind::layer) {
    float sum = 0;
    each([&](int, const float4& v, const float4&) { sum += v.x + v.y + (v.z + v.w); });
    mean = team.sum(sum, team_sums) / static_cast<float>(K);
  }
  float squares = 0;
  each([&](int, const float4& v, const float4&) {
    const float a = v.x - mean, b = v.y - mean, c = v.z - mean, d = v.w - mean;
    squares += a * a + b * b + (c * c + d * d);
  });
  const float inverse = 1.0f / sqrtf(team.sum(squares, team_sums) / static_cast<float>(K) + norm.eps);
  auto* to = reinterpret_cast<uint2*>(staged + team.token * staged_stride(K));
  each([&](int at, const float4& v, const float4& w) {
    const float4 b = offset == nullptr ? float4{0, 0, 0, 0} : __ldg(offset + at);
    to[at] = {pack2<Element>((v.x - mean) * inverse * w.x + b.x, (v.y - mean) * inverse * w.y + b.y),
              pack2<Element>((v.z - mean) * inverse * w.z + b.z, (v.w - mean) * inverse * w.w + b.w)};
  });
}

// Copies rows of x (T, K) of the weights' type into shared memory.
template <class Element>
__device__ __forceinline__ void stage_copied(Element* staged, const Element* x, int64_t stride, int tokens,
                                             int K) {
  const TokenTeam team(tokens);
  wait_for_predecessor();
  if (team.token >= tokens) return;
  const auto* row = reinterpret_cast<const uint4*>(x + team.token * stride);
  auto* to = reinterpret_cast<uint4*>(staged + team.token * staged_stride(K));
#pragma unroll 4
  for (int i = team.thread; i < K / 8; i += 32 * team.warps) to[i] = __ldcg(row + i);
}

}  // namespace llamita::device
