// Integer multiplication of block formats: what the activations become, what an output is, and what crosses
// into the per-ISA files.
//
// Activations are rounded once a call, to int8 with one scale for a run of elements, the roundings of ggml's
// Q8_0 / Q8_1 (runs of 32) and Q8_K (runs of 256, for the K-quants), so that a GGUF file answers as it does
// there:
//   32:  a = the largest |x|; q = x * (127 / a) to nearest even; d = fp16(a / 127); s = fp16(a / 127 *
//   sum(q)) 256: m = the x of the largest |x|, the first of equals; q = x * (-127 / m) to nearest even, at
//   most 127;
//        d = 1 / (-127 / m); sums of q for each 16
// A weight block holds integers w, an offset o, sub-block scales c and mins n (K-quants), d and m or dmin.
// An output is, block by block, ascending, in one f32 accumulator:
//   32:  acc = fma(d_w * d_x, float(sum((w - o) q)), acc), then, with mins, acc = fma(m_w, s_x, acc)
//   256: acc = fma(d_w * d_x, float(sum(c (w - o) q)), acc), then acc = fma(-(dmin_w * d_x), float(sum(n q)),
//   acc)
// and at last bias and residual are added. The sums are integers and exact, so their order is free: every
// variant that keeps these lines gives the bits of int8_reference, on any instruction set, at any T and any
// number of threads.
#pragma once

#include "ops/linear/kernels.h"

namespace llamita {

enum class Int8Run : uint8_t { none, of32, of256 };

// How the activations of a format are rounded; none for the plain types.
constexpr Int8Run int8_run(DType format) {
  switch (format) {
    case DType::q4_0:
    case DType::q4_1:
    case DType::q5_0:
    case DType::q5_1:
    case DType::q8_0:
    case DType::iq4_nl: return Int8Run::of32;
    case DType::q2_k:
    case DType::q3_k:
    case DType::q4_k:
    case DType::q5_k:
    case DType::q6_k: return Int8Run::of256;
    default: return Int8Run::none;
  }
}

constexpr int64_t elems_of(Int8Run run) { return run == Int8Run::of32 ? 32 : 256; }

// The panels take tokens in tiles, where what they read lies beside each other: rows of x would be K bytes
// apart, and at K = 4096 eight of them share eight lines of L1.
inline constexpr int kTileTokens = 8;

// Rounded activations, rows dense.
struct Int8Rows {
  Int8Run run = Int8Run::none;
  int8_t* q = nullptr;           // (T, K), -127 to 127
  float* scales = nullptr;       // (T, K / 32 or 256): d
  float* scaled_sums = nullptr;  // (T, K / 32): s; runs of 32 only
  int32_t* sums = nullptr;  // (T, K / 32): the sum of 32 q; runs of 256: of the first 16 in the low half,
                            // of the others in the high half
  // The same once more for the panels, T rounded up to whole tiles; nullptr where no panel reads them.
  int8_t* tiles = nullptr;            // (T / 8, K / 4, 8, 4): four elements of each of the tile's tokens
  float* tile_scales = nullptr;       // (T / 8, K / 32 or 256, 8)
  float* tile_scaled_sums = nullptr;  // (T / 8, K / 32, 8)
  int32_t* tile_sums = nullptr;       // (T / 8, K / 32, 8)
  // What centres unsigned weights: minus kCentreUnit times the sum of each run of 32, or of 16 for the
  // K-quants.
  int32_t* tile_centres = nullptr;  // (T / 8, K / 32 or 16, 8)
  // Runs of 256 only. The sums of two neighbouring 32 in the halves of a word.
  int32_t* tile_pair_sums = nullptr;  // (T / 8, K / 64, 8)
  // Runs of 256 only. How far sums of products can reach, the largest of the tile's tokens: in the low half
  // the sum of |q| of 16 elements, in the high half the larger of the sums of positive and of negative q
  // of 32.
  int32_t* tile_reach = nullptr;  // (T / 8, K / 256)
};
constexpr int centre_unit(Int8Run run) { return run == Int8Run::of32 ? 8 : 32; }

struct Int8Job {
  LinearJob plain;  // x is not read
  Int8Rows x;
};

// Rounds row t of x (K floats).
void int8_round_row_scalar(const float* x, int64_t K, int64_t t, const Int8Rows& to);
void int8_round_row_avx2(const float* x, int64_t K, int64_t t, const Int8Rows& to);
void int8_round_row_avx512(const float* x, int64_t K, int64_t t, const Int8Rows& to);

// Packs rows [t, t + count), count at most kTileTokens, into the tile that begins at token t.
void int8_pack_tile_avx2(int64_t K, int64_t t, int64_t count, const Int8Rows& x);
void int8_pack_tile_avx512(int64_t K, int64_t t, int64_t count, const Int8Rows& x);

// Outputs of rows [begin, end) of a part in a block format. Units of kInt8Rows* rows fill a panel.
inline constexpr int kInt8RowsAvx2 = 16, kInt8RowsAvx512 = 48;
// Tokens of an interleaved weight up to which rows of x are read; beyond, and for weights in rows, tiles.
inline constexpr int kInt8FewTokensAvx2 = 4, kInt8FewTokensAvx512 = 8;
void int8_multiply_scalar(const Int8Job& job, int64_t begin, int64_t end);
void int8_multiply_avx2(const Int8Job& job, int64_t begin, int64_t end);
void int8_multiply_avx512(const Int8Job& job, int64_t begin, int64_t end);
// A part of a plain type beside those, where there are no vector kernels.
void plain_multiply_scalar(const LinearJob& job, int64_t begin, int64_t end);

}  // namespace llamita
