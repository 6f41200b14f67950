// Attention of persistent_sm90: one token a sequence, its query heads of one KV head as the rows of m16n8k16
// (up to eight), sixteen keys a warp at a time, read from the pages straight into fragments.
//   scores: B is K: a lane reads eight elements of a key, which permutes the head's elements as Q's fragments
//   are values: B is V: a lane reads eight elements of each of four keys; tile j of a half of 64 elements has
//   as its
//           column c the element 8 c + j of the half, so that no lane needs what another read
// Online softmax a warp; the warps' states meet in shared memory in pairs, the splits' when the next product
// reads them. The warp that comes to the newest key rotates and stores it first.
#pragma once

#include "hw/cuda/device/online_softmax.cuh"
#include "hw/cuda/device/ptx/mma_sync.cuh"
#include "ops/decoder_layers/persistent_parts.cuh"

namespace llamita::device::persistent {

// The warp brings K and V of the step's token to the cache.
template <int kDim>
__device__ __forceinline__ void store_new_key(const Params& p, const Layer& l, const AttentionUnit& u) {
  constexpr int kPairs = kDim / 2, kHeld = kPairs / 32;  // pairs a lane
  const int lane = threadIdx.x % 32, token = u.sequence;
  const int64_t slot = p.slots[token];
  if (slot < 0) return;
  const float* from = p.qkv + int64_t{token} * p.qkv_rows() + p.q_rows();
  const float* k = from + u.kv_head * kDim;
  const float* v = from + (p.kv_heads + u.kv_head) * kDim;
  float low[kHeld], high[kHeld], squares = 0;
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    low[i] = __ldcg(k + lane + 32 * i);
    high[i] = __ldcg(k + lane + 32 * i + kPairs);
    squares += low[i] * low[i] + high[i] * high[i];
  }
  if (l.k_norm != nullptr) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) squares += __shfl_xor_sync(0xffffffff, squares, step);
    const float inverse = rsqrtf(squares / kDim + p.norm_eps);
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      low[i] *= inverse * l.k_norm[lane + 32 * i];
      high[i] *= inverse * l.k_norm[lane + 32 * i + kPairs];
    }
  }
  const int64_t in_page = (int64_t{u.kv_head} * kPageTokens + slot % kPageTokens) * kDim;
  Element* k_to = l.k_cache + slot / kPageTokens * p.k_page_stride + in_page;
  Element* v_to = l.v_cache + slot / kPageTokens * p.v_page_stride + in_page;
  const float* turn = p.cos_sin + token * p.cos_sin_stride;
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    const int pair = lane + 32 * i;
    const float cosine = turn[pair], sine = turn[kPairs + pair];
    k_to[pair] = from_f32<Element>(low[i] * cosine - high[i] * sine);
    k_to[pair + kPairs] = from_f32<Element>(high[i] * cosine + low[i] * sine);
    v_to[pair] = from_f32<Element>(__ldcg(v + pair));
    v_to[pair + kPairs] = from_f32<Element>(__ldcg(v + pair + kPairs));
  }
  __syncwarp();
}

// Q of the unit's heads, rotated, as A fragments: [piece of 32 elements][step of 16][its two registers of row
// g].
template <int kDim>
__device__ __forceinline__ void load_queries(const Params& p, const Layer& l, const AttentionUnit& u,
                                             uint32_t (&q)[kDim / 32][2][2]) {
  constexpr int kPieces = kDim / 32, kPairs = kDim / 2;
  const int lane = threadIdx.x % 32, g = lane / 4, column = lane % 4 * 8;
  const int group = p.heads / p.kv_heads;
  float value[kPieces][8];
  float squares = 0;
#pragma unroll
  for (int i = 0; i < kPieces; ++i)
#pragma unroll
    for (int four = 0; four < 2; ++four) {
      float4 part = {0, 0, 0, 0};
      if (g < group)
        part = __ldcg(reinterpret_cast<const float4*>(p.qkv + int64_t{u.sequence} * p.qkv_rows() +
                                                      (u.kv_head * group + g) * kDim + 32 * i + column +
                                                      4 * four));
      float* to = value[i] + 4 * four;
      to[0] = part.x, to[1] = part.y, to[2] = part.z, to[3] = part.w;
      squares += part.x * part.x + part.y * part.y + part.z * part.z + part.w * part.w;
    }
  if (l.q_norm != nullptr) {
    const float inverse = rsqrtf(quad_sum(squares) / kDim + p.norm_eps);
#pragma unroll
    for (int i = 0; i < kPieces; ++i)
#pragma unroll
      for (int j = 0; j < 8; ++j) value[i][j] *= inverse * l.q_norm[32 * i + column + j];
  }
  const float* turn = p.cos_sin + u.sequence * p.cos_sin_stride;
#pragma unroll
  for (int i = 0; i < kPieces / 2; ++i)
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const int pair = 32 * i + column + j;
      const float cosine = turn[pair], sine = turn[kPairs + pair];
      const float low = value[i][j], high = value[i + kPieces / 2][j];
      value[i][j] = low * cosine - high * sine;
      value[i + kPieces / 2][j] = high * cosine + low * sine;
    }
#pragma unroll
  for (int i = 0; i < kPieces; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) q[i][j / 2][j % 2] = pack2<Element>(value[i][2 * j], value[i][2 * j + 1]);
}

// What a warp knows of row g, and of its elements 64 half + 16 (lane % 4) + i.
template <int kDim>
struct HeadState {
  float highest = -INFINITY;  // in powers of two
  float total = 0;            // the lane's own part
  float out[kDim / 64][16] = {};
};

// Sixteen keys from `key` on.
template <int kDim>
__device__ __forceinline__ void add_keys(const Params& p, const Layer& l, const AttentionUnit& u, int key,
                                         const uint32_t (&q)[kDim / 32][2][2], HeadState<kDim>& state) {
  constexpr int kPieces = kDim / 32, kHalves = kDim / 64;
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  uint4 k[2][kPieces], v[4][kHalves];
  const Element* k_rows = l.k_cache + u.row(p, p.k_page_stride, key);
  const Element* v_rows = l.v_cache + u.row(p, p.v_page_stride, key);
#pragma unroll
  for (int tile = 0; tile < 2; ++tile)
#pragma unroll
    for (int i = 0; i < kPieces; ++i)
      k[tile][i] = __ldcg(reinterpret_cast<const uint4*>(k_rows + (8 * tile + g) * kDim + 32 * i + 8 * t));
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int row = 2 * t + i % 2 + i / 2 * 8;
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
      v[i][half] = {0, 0, 0, 0};  // behind the last key the page may hold NaN, and 0 * NaN is NaN
      if (key + row < u.keys)
        v[i][half] = __ldcg(reinterpret_cast<const uint4*>(v_rows + row * kDim + 64 * half + 8 * g));
    }
  }
  float scores[2][4] = {};
#pragma unroll
  for (int tile = 0; tile < 2; ++tile)
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const uint32_t first[4] = {q[i][0][0], 0, q[i][0][1], 0}, second[4] = {q[i][1][0], 0, q[i][1][1], 0};
      ptx::mma_m16n8k16<Element>(scores[tile], first, k[tile][i].x, k[tile][i].y);
      ptx::mma_m16n8k16<Element>(scores[tile], second, k[tile][i].z, k[tile][i].w);
    }
  float highest = state.highest;
#pragma unroll
  for (int tile = 0; tile < 2; ++tile)
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int at = key + 8 * tile + 2 * t + i;
      scores[tile][i] = at < u.keys && at >= u.first_key ? scores[tile][i] * (p.scale * kLog2e) : -INFINITY;
      highest = fmaxf(highest, scores[tile][i]);
    }
  highest = quad_max(highest);
  const float base = highest == -INFINITY ? 0 : highest;  // the window begins behind these keys
  const float correction = ptx::exp2_approx(state.highest - base);
  state.highest = highest;
  state.total *= correction;
#pragma unroll
  for (int tile = 0; tile < 2; ++tile)
#pragma unroll
    for (int i = 0; i < 2; ++i) state.total += scores[tile][i] = ptx::exp2_approx(scores[tile][i] - base);
  const uint32_t weights[4] = {pack2<Element>(scores[0][0], scores[0][1]), 0,
                               pack2<Element>(scores[1][0], scores[1][1]), 0};
#pragma unroll
  for (int half = 0; half < kHalves; ++half) {
    const uint32_t rows[4][4] = {{v[0][half].x, v[0][half].y, v[0][half].z, v[0][half].w},
                                 {v[1][half].x, v[1][half].y, v[1][half].z, v[1][half].w},
                                 {v[2][half].x, v[2][half].y, v[2][half].z, v[2][half].w},
                                 {v[3][half].x, v[3][half].y, v[3][half].z, v[3][half].w}};
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const uint32_t pick = j % 2 == 0 ? 0x5410 : 0x7632;  // the low or the high elements of two registers
      float sum[4] = {state.out[half][j] * correction, state.out[half][8 + j] * correction, 0, 0};
      ptx::mma_m16n8k16<Element>(sum, weights, __byte_perm(rows[0][j / 2], rows[1][j / 2], pick),
                                 __byte_perm(rows[2][j / 2], rows[3][j / 2], pick));
      state.out[half][j] = sum[0];
      state.out[half][8 + j] = sum[1];
    }
  }
}

// Warp `warp` gets the states of all, in a tree.
template <int kDim>
__device__ __forceinline__ void merge_states(Storage& s, HeadState<kDim>& state) {
  constexpr int kValues = kDim / 64 * 16;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
  for (int half = kConsumerWarps / 2; half > 0; half /= 2) {
    consumer_sync();
    if (warp >= half && warp < 2 * half) {
      auto& to = s.parts[warp - half];
      to[0][lane] = state.highest;
      to[1][lane] = state.total;
#pragma unroll
      for (int i = 0; i < kValues; ++i) to[2 + i][lane] = state.out[i / 16][i % 16];
    }
    consumer_sync();
    if (warp < half) {
      const auto& from = s.parts[warp];
      const float highest = fmaxf(state.highest, from[0][lane]);
      const float mine = weight_of(state.highest, highest), other = weight_of(from[0][lane], highest);
      state.highest = highest;
      state.total = state.total * mine + from[1][lane] * other;
#pragma unroll
      for (int i = 0; i < kValues; ++i)
        state.out[i / 16][i % 16] = state.out[i / 16][i % 16] * mine + from[2 + i][lane] * other;
    }
  }
}

template <int kDim>
__device__ __forceinline__ void store_heads(const Params& p, const AttentionUnit& u,
                                            const HeadState<kDim>& state) {
  const int lane = threadIdx.x % 32, g = lane / 4, group = p.heads / p.kv_heads;
  const float total = quad_sum(state.total);
  if (g >= group) return;
  const int64_t head = int64_t{u.sequence} * p.heads + u.kv_head * group + g;
  if (p.splits == 1) {
    const float scale = 1 / total;
#pragma unroll
    for (int half = 0; half < kDim / 64; ++half) {
      auto* to = reinterpret_cast<uint32_t*>(p.mixed + head * kDim + 64 * half + 16 * (lane % 4));
#pragma unroll
      for (int i = 0; i < 8; ++i)
        to[i] = pack2<Element>(state.out[half][2 * i] * scale, state.out[half][2 * i + 1] * scale);
    }
    return;
  }
  const int64_t part = head * p.splits + u.split;
  if (lane % 4 == 0) p.part_state[part] = {state.highest, total};
#pragma unroll
  for (int half = 0; half < kDim / 64; ++half) {
    auto* to = reinterpret_cast<float4*>(p.part_out + part * kDim + 64 * half + 16 * (lane % 4));
#pragma unroll
    for (int i = 0; i < 4; ++i)
      to[i] = {state.out[half][4 * i], state.out[half][4 * i + 1], state.out[half][4 * i + 2],
               state.out[half][4 * i + 3]};
  }
}

template <int kDim>
__device__ __forceinline__ void attend(const Params& p, Storage& s, int layer) {
  const Layer& l = p.layer[layer];
  const int warp = threadIdx.x / 32;
  for (int unit = blockIdx.x; unit < AttentionUnit::count(p); unit += gridDim.x) {
    const AttentionUnit u(p, l.window, unit);
    uint32_t q[kDim / 32][2][2];
    load_queries<kDim>(p, l, u, q);
    HeadState<kDim> state;
#pragma unroll 1
    for (int block = u.begin + warp; block < u.end; block += kConsumerWarps) {
      if (16 * block + 16 >= u.keys) store_new_key<kDim>(p, l, u);
      add_keys<kDim>(p, l, u, 16 * block, q, state);
    }
    merge_states<kDim>(s, state);
    if (warp == 0) store_heads<kDim>(p, u, state);
  }
}

}  // namespace llamita::device::persistent
