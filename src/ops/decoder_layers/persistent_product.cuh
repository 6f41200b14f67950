// The products of persistent_sm90. What a product reads is brought to shared memory as bf16, whole; then a
// warp multiplies 128 of every 1024 elements along K with m16n8k16: rows of the weight are A, the token is
// the first column of B. k is summed in ascending order within a warp and the warps' sums in ascending order.
// Both operands come in pieces of eight elements a lane, which is a permutation of k inside 32 elements and
// the same one for both.
#pragma once

#include "hw/cuda/device/online_softmax.cuh"
#include "hw/cuda/device/ptx/fence.cuh"
#include "hw/cuda/device/ptx/math.cuh"
#include "hw/cuda/device/ptx/mma_sync.cuh"
#include "ops/decoder_layers/persistent_parts.cuh"

namespace llamita::device::persistent {

__device__ __forceinline__ float warp_total(float x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffff, x, step);
  return x;
}

// Pairs of elements, as one block each has left them.
__device__ __forceinline__ void receive_pairs(Storage& s, const uint64_t* from, int pairs, uint32_t tag) {
  auto* to = reinterpret_cast<uint2*>(s.x);
  receive<8>([&](int i) { return from + 2 * i; }, pairs / 2, tag,
             [&](int i, uint32_t first, uint32_t second) {
               to[i] = {first, second};
             });
}

// 1 / RMS of the residual stream, by the last warp.
__device__ __forceinline__ void receive_squares(const Step& p, Storage& s, const uint64_t* from,
                                                uint32_t tag) {
  if (threadIdx.x / 32 != kConsumerWarps - 1) return;
  constexpr int kAhead = 5;
  float sum = 0;
  for (int base = threadIdx.x % 32; base < gridDim.x; base += 32 * kAhead) {
    uint64_t letters[kAhead];
    ptx::await_letters([&] {
#pragma unroll
      for (int i = 0; i < kAhead; ++i)
        letters[i] = ptx::read_letter(from + min(base + 32 * i, static_cast<int>(gridDim.x) - 1));
      bool all = true;
#pragma unroll
      for (int i = 0; i < kAhead; ++i) all = all && ptx::has_tag(letters[i], tag);
      return all;
    });
#pragma unroll
    for (int i = 0; i < kAhead; ++i)
      if (base + 32 * i < gridDim.x) sum += __uint_as_float(static_cast<uint32_t>(letters[i]));
  }
  sum = warp_total(sum);
  if (threadIdx.x % 32 == 0) s.inverse = rsqrtf(sum / static_cast<float>(p.C) + p.norm_eps);
}

// Attention's result, of splits of the keys, some splits at a time.
__device__ __forceinline__ void receive_splits(const Step& p, Storage& s, uint32_t tag) {
  constexpr int kTogether = 4;
  const int elements = p.q_rows();
  for (int i = threadIdx.x; i < elements / 4; i += kConsumers) {  // four elements, two letters of each split
    const int head = 4 * i / p.head_dim;
    float highest = -INFINITY, total = 0, sum[4] = {};
#pragma unroll 1
    for (int first = 0; first < p.splits; first += kTogether) {
      ulonglong2 pairs[kTogether];
      uint64_t weights[kTogether];
#pragma unroll
      for (int j = 0; j < kTogether; ++j) {  // a split that does not exist has come, and weighs nothing
        const uint64_t unread = uint64_t{first + j < p.splits ? ~tag : tag} << 32;
        pairs[j] = {unread, unread};
        weights[j] = unread | __float_as_uint(-INFINITY);
      }
      ptx::await_letters([&] {
#pragma unroll
        for (int j = 0; j < kTogether; ++j) {
          if (came(pairs[j], tag) && ptx::has_tag(weights[j], tag)) continue;
          pairs[j] = ptx::read_two_letters(p.letters.mixed + int64_t{first + j} * (elements / 2) + 2 * i);
          weights[j] = ptx::read_letter(p.letters.weights + (first + j) * p.heads + head);
        }
        bool all = true;
#pragma unroll
        for (int j = 0; j < kTogether; ++j) all = all && came(pairs[j], tag) && ptx::has_tag(weights[j], tag);
        return all;
      });
      const auto weight_at = [&](int j) { return __uint_as_float(static_cast<uint32_t>(weights[j])); };
      float now = highest;
#pragma unroll
      for (int j = 0; j < kTogether; ++j) now = fmaxf(now, weight_at(j));
      const float before = weight_of(highest, now);
      highest = now;
      total *= before;
#pragma unroll
      for (float& x : sum) x *= before;
#pragma unroll
      for (int j = 0; j < kTogether; ++j) {
        const float weight = weight_of(weight_at(j), now);
        const float2 low = unpack2<Element>(static_cast<uint32_t>(pairs[j].x));
        const float2 high = unpack2<Element>(static_cast<uint32_t>(pairs[j].y));
        total += weight;
        sum[0] += weight * low.x;
        sum[1] += weight * low.y;
        sum[2] += weight * high.x;
        sum[3] += weight * high.y;
      }
    }
    const float scale = 1 / total;
    reinterpret_cast<uint2*>(s.x)[i] = {pack2<Element>(sum[0] * scale, sum[1] * scale),
                                        pack2<Element>(sum[2] * scale, sum[3] * scale)};
  }
}

// What the product reads, to shared memory; with the factor of its sums, where a norm stands before it.
__device__ __forceinline__ void receive_input(const Step& p, Storage& s, int product, uint32_t tag) {
  const uint64_t* from = p.letters.scaled[product == kQkv ? 0 : 1];
  int elements = p.C;
  if (product == kOut) from = p.letters.mixed, elements = p.q_rows();
  if (product == kDown) from = p.letters.hidden, elements = p.F;
  if (elements > Storage::kSumsAt) consumer_sync();  // it lies over sums that were just read
  if (product == kQkv || product == kGate)
    receive_squares(p, s, p.letters.squares[product == kQkv ? 0 : 1], tag);
  if (product == kOut && p.splits > 1)
    receive_splits(p, s, tag);
  else
    receive_pairs(s, from, elements / 2, tag);
  consumer_sync();
}

__device__ __forceinline__ float* sums_of(Storage& s, int product, int warp) {
  return product == kOut || product == kDown ? s.own_sums[warp] : s.sums[product % 2][warp];
}

// The sums of a share's rows over each warp's part of K, to shared memory. Two chains of multiplies a tile,
// since one waits 33 cycles for its last. All columns of B are the token: then lanes need not differ.
__device__ __forceinline__ void multiply(Storage& s, const Share& share, int product, RingPlace& at) {
  constexpr int kPieces = 4;  // of 32 elements
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4;
  const int offset = 128 * warp + lane % 4 * 8;
  float* to = sums_of(s, product, warp);
#pragma unroll 1
  for (int tile = 0; tile < share.tiles; ++tile) {
    const int count = share.height(tile);
    float even[4] = {}, odd[4] = {};
#pragma unroll 1
    for (int k = 0; k < share.K; k += kChunk) {
      const int pieces = min(kPieces, (min(kChunk, share.K - k) - 128 * warp) / 32);
      const uint8_t* low_row = s.rows[at.row_at(g)] + offset * sizeof(Element);
      const uint8_t* high_row = s.rows[at.row_at(g + 8)] + offset * sizeof(Element);
      uint4 x[kPieces], low[kPieces], high[kPieces];
#pragma unroll
      for (int i = 0; i < kPieces; ++i)
        if (i < pieces) x[i] = *reinterpret_cast<const uint4*>(s.x + k + offset + 32 * i);
      ptx::mbarrier_wait(&s.full[at.at()], at.parity());
#pragma unroll
      for (int i = 0; i < kPieces; ++i) {
        if (i >= pieces) continue;  // what lies there is of another product, and may be NaN
        low[i] = *reinterpret_cast<const uint4*>(low_row + 64 * i);
        high[i] = *reinterpret_cast<const uint4*>(high_row + 64 * i);
      }
#pragma unroll
      for (int i = 0; i < kPieces; ++i) {
        if (i >= pieces) continue;
        const uint32_t first[4] = {low[i].x, high[i].x, low[i].y, high[i].y};
        const uint32_t second[4] = {low[i].z, high[i].z, low[i].w, high[i].w};
        ptx::mma_m16n8k16<Element>(even, first, x[i].x, x[i].y);
        ptx::mma_m16n8k16<Element>(odd, second, x[i].z, x[i].w);
      }
      // The multiplies have taken what was read, in every lane: only now may the copy engine write there. The
      // fence costs nothing (docs/performance/gpu.md has what a release without it did in attention).
      ptx::fence_proxy_async_smem();
      __syncwarp();
      if (lane == 0) ptx::mbarrier_arrive(&s.empty[at.at()]);
      at.advance(count);
    }
    const int row = g + lane % 2 * 8;  // lanes 0 and 1 of a quad store
    if (lane % 4 < 2 && row < count)
      to[share.begin(tile) + row] = lane % 2 == 0 ? even[0] + odd[0] : even[2] + odd[2];
  }
  consumer_sync();
}

// Rows 2 pair and 2 pair + 1 of the share, over all warps.
__device__ __forceinline__ float2 pair_of_sums(Storage& s, int product, int pair) {
  float2 sum = {0, 0};
#pragma unroll
  for (int w = 0; w < kConsumerWarps; ++w) {
    const float2 part = *reinterpret_cast<const float2*>(sums_of(s, product, w) + 2 * pair);
    sum.x += part.x;
    sum.y += part.y;
  }
  return sum;
}

// This block's rows of the residual stream, as norm `which` of a layer wants them, to all blocks. By the
// first warp: a lane a pair of rows.
__device__ __forceinline__ void post_own(const Step& p, Storage& s, int which, const float* gains, int first,
                                         int rows, uint32_t tag) {
  const int lane = threadIdx.x % 32;
  float squares = 0;
  for (int pair = lane; pair < rows / 2; pair += 32) {
    const float low = s.own[2 * pair], high = s.own[2 * pair + 1];
    squares += low * low + high * high;
    ptx::post_letter(p.letters.scaled[which] + first / 2 + pair,
                     pack2<Element>(low * gains[2 * pair], high * gains[2 * pair + 1]), tag);
  }
  squares = warp_total(squares);
  if (lane == 0) ptx::post_letter(p.letters.squares[which] + blockIdx.x, __float_as_uint(squares), tag);
}

}  // namespace llamita::device::persistent
