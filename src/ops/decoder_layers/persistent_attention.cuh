// Attention of persistent_sm90: a block has one KV head and a run of keys; the group's query heads are the
// rows of m16n8k16 (up to eight), and a warp takes sixteen keys at a time, from the pages straight into
// fragments.
//   scores: B is K: a lane reads eight elements of a key, which permutes the head's elements as Q's fragments
//   are values: B is V: a lane reads eight elements of each of four keys; tile j of a half of 64 elements has
//   as its
//           column c the element 8 c + j of the half, so that no lane needs what another read
// The warp's first keys are under way before q is there. The step's own key and value never pass through
// memory: the warp whose turn they are puts them into its fragments, and stores them. Online softmax a warp;
// the warps' states meet in shared memory, in pairs.
#pragma once

#include "hw/cuda/device/online_softmax.cuh"
#include "hw/cuda/device/ptx/mma_sync.cuh"
#include "ops/decoder_layers/persistent_product.cuh"

namespace llamita::device::persistent {

// Sixteen keys as fragments.
template <int kDim>
struct Keys {
  uint4 k[2][kDim / 32];  // of keys g and g + 8, elements 32 i + 8 t ..
  uint4 v[4][kDim / 64];  // of keys 2t, 2t + 1, 2t + 8, 2t + 9, elements 64 half + 8 g ..

  __device__ __forceinline__ static int value_row(int i) {
    return static_cast<int>(threadIdx.x) % 4 * 2 + i % 2 + i / 2 * 8;
  }

  // Those of earlier steps; what is not there becomes zero, since behind the last key a page may hold NaN,
  // and 0 * NaN is NaN.
  __device__ __forceinline__ void load(const Params& p, const Storage& s, const Layer& l,
                                       const AttentionShare& u, int first_page, int block) {
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, key = 16 * block;
    const int index = key / kPageTokens - first_page;
    const int64_t page = index >= 0 && index < kMostPages ? s.pages[index] : p.block_table[key / kPageTokens];
    const int64_t in_page = (int64_t{u.kv_head} * kPageTokens + key % kPageTokens) * kDim;
    const Element* k_rows = l.k_cache + page * p.k_page_stride + in_page;
    const Element* v_rows = l.v_cache + page * p.v_page_stride + in_page;
#pragma unroll
    for (int tile = 0; tile < 2; ++tile)
#pragma unroll
      for (int i = 0; i < kDim / 32; ++i) {
        const int row = 8 * tile + g;
        k[tile][i] = {0, 0, 0, 0};
        if (key + row < u.keys - 1)
          k[tile][i] = __ldcg(reinterpret_cast<const uint4*>(k_rows + row * kDim + 32 * i + 8 * t));
      }
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int half = 0; half < kDim / 64; ++half) {
        v[i][half] = {0, 0, 0, 0};
        if (key + value_row(i) < u.keys - 1)
          v[i][half] =
              __ldcg(reinterpret_cast<const uint4*>(v_rows + value_row(i) * kDim + 64 * half + 8 * g));
      }
  }
};

__device__ __forceinline__ uint4 pack8(const float (&x)[8]) {
  return {pack2<Element>(x[0], x[1]), pack2<Element>(x[2], x[3]), pack2<Element>(x[4], x[5]),
          pack2<Element>(x[6], x[7])};
}

// Head `head` of what arrived (q's, then k), normed and rotated: elements 32 i + 8 t .. of the lane. Not for
// heads beyond `heads`, which become zero.
template <int kDim>
__device__ __forceinline__ void turned_head(const Params& p, const Storage& s, int head, bool exists,
                                            const float* gains, uint4 (&out)[kDim / 32]) {
  constexpr int kPieces = kDim / 32;
  const int column = static_cast<int>(threadIdx.x) % 4 * 8;
  float value[kPieces][8], squares = 0;
#pragma unroll
  for (int i = 0; i < kPieces; ++i)
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      value[i][j] = exists ? s.heads[head][32 * i + column + j] : 0;
      squares += value[i][j] * value[i][j];
    }
  if (gains != nullptr) {
    const float inverse = rsqrtf(quad_sum(squares) / kDim + p.norm_eps);
#pragma unroll
    for (int i = 0; i < kPieces; ++i)
#pragma unroll
      for (int j = 0; j < 8; ++j) value[i][j] *= inverse * gains[32 * i + column + j];
  }
#pragma unroll
  for (int i = 0; i < kPieces / 2; ++i)
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const int pair = 32 * i + column + j;
      const float cosine = s.turn[pair], sine = s.turn[kDim / 2 + pair];
      const float low = value[i][j], high = value[i + kPieces / 2][j];
      value[i][j] = low * cosine - high * sine;
      value[i + kPieces / 2][j] = high * cosine + low * sine;
    }
#pragma unroll
  for (int i = 0; i < kPieces; ++i) out[i] = pack8(value[i]);
}

// The step's key and value: into the warp's fragments, and to the cache.
template <int kDim>
__device__ __forceinline__ void add_new_key(const Params& p, const Storage& s, const Layer& l,
                                            const AttentionShare& u, Keys<kDim>& keys) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, group = p.heads / p.kv_heads;
  const int row = (u.keys - 1) % 16;
  const int64_t slot = *p.slot;
  const int64_t in_page = (int64_t{u.kv_head} * kPageTokens + slot % kPageTokens) * kDim;
  Element* k_to = l.k_cache + slot / kPageTokens * p.k_page_stride + in_page;
  Element* v_to = l.v_cache + slot / kPageTokens * p.v_page_stride + in_page;
  uint4 turned[kDim / 32];
  turned_head<kDim>(p, s, group, true, l.k_norm == nullptr ? nullptr : s.norms[1], turned);
#pragma unroll
  for (int i = 0; i < kDim / 32; ++i) {
    if (g == 0 && slot >= 0) *reinterpret_cast<uint4*>(k_to + 32 * i + 8 * t) = turned[i];
#pragma unroll
    for (int tile = 0; tile < 2; ++tile)
      if (8 * tile + g == row) keys.k[tile][i] = turned[i];
  }
#pragma unroll
  for (int half = 0; half < kDim / 64; ++half) {
    float value[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) value[j] = s.heads[group + 1][64 * half + 8 * g + j];
    const uint4 packed = pack8(value);
    if (t == 0 && slot >= 0) *reinterpret_cast<uint4*>(v_to + 64 * half + 8 * g) = packed;
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (Keys<kDim>::value_row(i) == row) keys.v[i][half] = packed;
  }
}

// What a warp knows of head g, and of its elements 64 half + 16 t + i.
template <int kDim>
struct HeadState {
  float highest = -INFINITY;  // in powers of two
  float total = 0;            // the lane's own part
  float out[kDim / 64][16] = {};

  __device__ __forceinline__ void add(const Params& p, const AttentionShare& u, int key,
                                      const uint4 (&q)[kDim / 32], const Keys<kDim>& keys) {
    const int t = static_cast<int>(threadIdx.x) % 4;
    float scores[2][4] = {};
#pragma unroll
    for (int tile = 0; tile < 2; ++tile)
#pragma unroll
      for (int i = 0; i < kDim / 32; ++i) {
        const uint32_t first[4] = {q[i].x, 0, q[i].y, 0}, second[4] = {q[i].z, 0, q[i].w, 0};
        ptx::mma_m16n8k16<Element>(scores[tile], first, keys.k[tile][i].x, keys.k[tile][i].y);
        ptx::mma_m16n8k16<Element>(scores[tile], second, keys.k[tile][i].z, keys.k[tile][i].w);
      }
    float now = highest;
#pragma unroll
    for (int tile = 0; tile < 2; ++tile)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int at = key + 8 * tile + 2 * t + i;
        scores[tile][i] = at < u.keys && at >= u.first_key ? scores[tile][i] * (p.scale * kLog2e) : -INFINITY;
        now = fmaxf(now, scores[tile][i]);
      }
    now = quad_max(now);
    const float base = now == -INFINITY ? 0 : now;  // the window begins behind these keys
    const float correction = ptx::exp2_approx(highest - base);
    highest = now;
    total *= correction;
#pragma unroll
    for (int tile = 0; tile < 2; ++tile)
#pragma unroll
      for (int i = 0; i < 2; ++i) total += scores[tile][i] = ptx::exp2_approx(scores[tile][i] - base);
    const uint32_t weights[4] = {pack2<Element>(scores[0][0], scores[0][1]), 0,
                                 pack2<Element>(scores[1][0], scores[1][1]), 0};
#pragma unroll
    for (int half = 0; half < kDim / 64; ++half) {
      uint32_t rows[4][4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const uint4 row = keys.v[i][half];
        rows[i][0] = row.x, rows[i][1] = row.y, rows[i][2] = row.z, rows[i][3] = row.w;
      }
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const uint32_t pick = j % 2 == 0 ? 0x5410 : 0x7632;  // the low or the high elements of two registers
        float sum[4] = {out[half][j] * correction, out[half][8 + j] * correction, 0, 0};
        ptx::mma_m16n8k16<Element>(sum, weights, __byte_perm(rows[0][j / 2], rows[1][j / 2], pick),
                                   __byte_perm(rows[2][j / 2], rows[3][j / 2], pick));
        out[half][j] = sum[0];
        out[half][8 + j] = sum[1];
      }
    }
  }
};

// The first warp gets the states of all, in a tree.
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
__device__ __forceinline__ void post_heads(const Params& p, const AttentionShare& u,
                                           const HeadState<kDim>& state, uint32_t tag) {
  const int lane = threadIdx.x % 32, g = lane / 4, group = p.heads / p.kv_heads;
  const float total = quad_sum(state.total);
  if (g >= group) return;
  const int head = u.kv_head * group + g;
  const float scale = total > 0 ? 1 / total : 0;  // a split behind the last key has no sum
  uint64_t* to = p.letters.mixed + (int64_t{u.split} * p.q_rows() + head * kDim + 16 * (lane % 4)) / 2;
#pragma unroll
  for (int half = 0; half < kDim / 64; ++half)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      ptx::post_two_letters(
          to + 32 * half + 2 * i,
          pack2<Element>(state.out[half][4 * i] * scale, state.out[half][4 * i + 1] * scale),
          pack2<Element>(state.out[half][4 * i + 2] * scale, state.out[half][4 * i + 3] * scale), tag);
  if (lane % 4 == 0 && p.splits > 1)
    ptx::post_letter(p.letters.weights + u.split * p.heads + head,
                     __float_as_uint(total > 0 ? state.highest + log2f(total) : -INFINITY), tag);
}

// `first_page`: of what lies in s.pages.
template <int kDim>
__device__ __forceinline__ void attend(const Params& p, Storage& s, int layer, int keys, int first_page,
                                       uint32_t tag) {
  const Layer& l = p.layer[layer];
  const AttentionShare u(p, l.window, keys);
  if (!u.exists(p)) return;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = p.heads / p.kv_heads;
  int block = u.begin + warp;
  Keys<kDim> now;
  if (block < u.end) now.load(p, s, l, u, first_page, block);
  if (l.q_norm != nullptr && threadIdx.x < kDim) {
    s.norms[0][threadIdx.x] = l.q_norm[threadIdx.x];
    s.norms[1][threadIdx.x] = l.k_norm[threadIdx.x];
  }
  constexpr int kTwos = kDim / 2;  // of a head
  receive<4>(
      [&](int i) {
        const int head = i / kTwos;
        const int from = head < group    ? u.kv_head * group + head
                         : head == group ? p.heads + u.kv_head
                                         : p.heads + p.kv_heads + u.kv_head;
        return p.letters.qkv + from * kDim + i % kTwos * 2;
      },
      (group + 2) * kTwos, tag,
      [&](int i, uint32_t first, uint32_t second) {
        *reinterpret_cast<uint2*>(&s.heads[i / kTwos][i % kTwos * 2]) = {first, second};
      });
  consumer_sync();
  uint4 q[kDim / 32];
  turned_head<kDim>(p, s, lane / 4, lane / 4 < group, l.q_norm == nullptr ? nullptr : s.norms[0], q);
  HeadState<kDim> state;
#pragma unroll 1
  while (block < u.end) {
    if (16 * block + 16 >= u.keys) add_new_key<kDim>(p, s, l, u, now);
    state.add(p, u, 16 * block, q, now);
    block += kConsumerWarps;
    if (block < u.end) now.load(p, s, l, u, first_page, block);
  }
  merge_states<kDim>(s, state);
  if (warp == 0) post_heads<kDim>(p, u, state, tag);
  consumer_sync();  // the next product's input may lie where this was
}

}  // namespace llamita::device::persistent
