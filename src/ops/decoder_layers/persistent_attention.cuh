// Attention of persistent_sm90: a block has one KV head and a run of keys; the group's query heads are the
// rows of m16n8k16 (up to eight), and a warp takes sixteen keys at a time, from the pages straight into
// fragments.
//   scores: B is K; a lane reads eight elements of a key, which permutes the head's elements as it does Q's
//   values: B is V; a lane reads eight elements of each of four keys, and tile j of a half of 64 elements has
//           as its column c the element 8 c + j of the half, so that no lane needs what another read
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
  __device__ __forceinline__ void load(const Step& p, const Storage& s, const Layer& l,
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

// The heads that came, normed, rotated and rounded; v only rounded. A warp a head, a lane two or four
// elements.
template <int kDim>
__device__ __forceinline__ void turn_heads(const Step& p, Storage& s, const Layer& l) {
  constexpr int kPairs = kDim / 2, kHeld = kPairs / 32;
  const int lane = threadIdx.x % 32, group = p.heads / p.kv_heads;
#pragma unroll 1
  for (int head = threadIdx.x / 32; head < group + 2; head += kConsumerWarps) {
    float low[kHeld], high[kHeld], squares = 0;
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      low[i] = s.heads[head][lane + 32 * i];
      high[i] = s.heads[head][lane + 32 * i + kPairs];
      squares += low[i] * low[i] + high[i] * high[i];
    }
    const bool is_v = head > group;
    if (l.q_norm != nullptr && !is_v) {
      const float* gains = s.norms[head < group ? 0 : 1];
      const float inverse = rsqrtf(warp_total(squares) / kDim + p.norm_eps);
#pragma unroll
      for (int i = 0; i < kHeld; ++i) {
        low[i] *= inverse * gains[lane + 32 * i];
        high[i] *= inverse * gains[lane + 32 * i + kPairs];
      }
    }
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const int pair = lane + 32 * i;
      const float cosine = is_v ? 1 : s.turn[pair], sine = is_v ? 0 : s.turn[kPairs + pair];
      s.turned[head][pair] = from_f32<Element>(low[i] * cosine - high[i] * sine);
      s.turned[head][pair + kPairs] = from_f32<Element>(high[i] * cosine + low[i] * sine);
    }
  }
}

// The step's key and value: into the warp's fragments, and to the cache.
template <int kDim>
__device__ __forceinline__ void add_new_key(const Step& p, const Storage& s, const Layer& l,
                                            const AttentionShare& u, Keys<kDim>& keys) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, group = p.heads / p.kv_heads;
  const int row = (u.keys - 1) % 16;
  const int64_t slot = s.slot;
  constexpr int kPieces = kDim / 8;  // of sixteen bytes
  if (slot >= 0 && lane < 2 * kPieces) {
    const bool is_v = lane >= kPieces;
    const int at = lane % kPieces * 8;
    const int64_t in_page = (int64_t{u.kv_head} * kPageTokens + slot % kPageTokens) * kDim + at;
    Element* to = is_v ? l.v_cache + slot / kPageTokens * p.v_page_stride
                       : l.k_cache + slot / kPageTokens * p.k_page_stride;
    *reinterpret_cast<uint4*>(to + in_page) = *reinterpret_cast<const uint4*>(&s.turned[group + is_v][at]);
  }
#pragma unroll
  for (int i = 0; i < kDim / 32; ++i)
#pragma unroll
    for (int tile = 0; tile < 2; ++tile)
      if (8 * tile + g == row)
        keys.k[tile][i] = *reinterpret_cast<const uint4*>(&s.turned[group][32 * i + 8 * t]);
#pragma unroll
  for (int half = 0; half < kDim / 64; ++half)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (Keys<kDim>::value_row(i) == row)
        keys.v[i][half] = *reinterpret_cast<const uint4*>(&s.turned[group + 1][64 * half + 8 * g]);
}

// What a warp knows of head g, and of its elements 64 half + 16 t + i.
template <int kDim>
struct HeadState {
  float highest = -INFINITY;  // in powers of two
  float total = 0;            // the lane's own part
  float out[kDim / 64][16] = {};

  __device__ __forceinline__ void add(const Step& p, const AttentionShare& u, int key,
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
#pragma unroll 1
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
__device__ __forceinline__ void post_heads(const Step& p, const AttentionShare& u,
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

// q, k and v of the block's heads as they came, to shared memory.
template <int kDim>
__device__ __forceinline__ void receive_heads(const Step& p, Storage& s, int kv_head, uint32_t tag) {
  constexpr int kTwos = kDim / 2;  // of a head
  const int group = p.heads / p.kv_heads;
  receive<4>(
      [&](int i) {
        const int head = i / kTwos;
        const int from = head < group    ? kv_head * group + head
                         : head == group ? p.heads + kv_head
                                         : p.heads + p.kv_heads + kv_head;
        return p.letters.qkv + from * kDim + i % kTwos * 2;
      },
      (group + 2) * kTwos, tag,
      [&](int i, uint32_t first, uint32_t second) {
        *reinterpret_cast<uint2*>(&s.heads[i / kTwos][i % kTwos * 2]) = {first, second};
      });
}

// A function of its own, so that what it keeps in registers does not weigh on the products. `first_page`: of
// what lies in s.pages.
template <int kDim>
__device__ __noinline__ void attend(int layer, int first_page, uint32_t tag) {
  Storage& s = storage();
  const Step& p = s.step;
  const Layer& l = s.layer[layer];
  const AttentionShare u(p, l.window, s.keys);
  if (!u.exists(p)) return;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = p.heads / p.kv_heads;
  if (l.q_norm != nullptr && threadIdx.x < kDim) {
    s.norms[0][threadIdx.x] = l.q_norm[threadIdx.x];
    s.norms[1][threadIdx.x] = l.k_norm[threadIdx.x];
  }
  uint4 q[kDim / 32];
  HeadState<kDim> state;
  bool has_q = false;
  int block = u.begin + warp;
#pragma unroll 1
  do {
    Keys<kDim> now;
    if (block < u.end) now.load(p, s, l, u, first_page, block);
    if (!has_q) {
      receive_heads<kDim>(p, s, u.kv_head, tag);
      consumer_sync();
      turn_heads<kDim>(p, s, l);
      consumer_sync();
#pragma unroll
      for (int i = 0; i < kDim / 32; ++i) {
        q[i] = {0, 0, 0, 0};
        if (lane / 4 < group)
          q[i] = *reinterpret_cast<const uint4*>(&s.turned[lane / 4][32 * i + lane % 4 * 8]);
      }
      has_q = true;
    }
    if (block < u.end) {
      if (16 * block + 16 >= u.keys) add_new_key<kDim>(p, s, l, u, now);
      state.add(p, u, 16 * block, q, now);
    }
    block += kConsumerWarps;
  } while (block < u.end);
  merge_states<kDim>(s, state);
  if (warp == 0) post_heads<kDim>(p, u, state, tag);
  consumer_sync();  // the next product's input may lie where this was
}

}  // namespace llamita::device::persistent
