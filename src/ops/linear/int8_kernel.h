// The integer kernel, as a template over D (cpu_int8_avx2.cc, cpu_int8_avx512.cc) and a format of
// int8_decode.h. One token of the formats of 32 elements goes to int8_token_kernel.h.
//
// A panel is kRows rows by kChunk elements, unpacked to bytes and turned so that a register holds four
// consecutive elements of as many rows as it has 32-bit lanes: 8 KiB in L1, with AVX-512 12. Four activations
// of a token are broadcast against it, so that a lane is an output: no sum across lanes, one conversion and
// one scale for a block of 32 (or 256). With AVX2 256 products of Q4_1 cost about 20 instructions of the
// multipliers and adders where f32 needs 32 multiplications on two ports. Unpacking costs about 10
// instructions for 32 weights, turning three: at T = 1 about what summing across lanes would.
#pragma once

#include "ops/linear/int8.h"
#include "ops/linear/int8_group_kernel.h"
#include "ops/linear/int8_token_kernel.h"
#include "ops/linear/int8_turn.h"

namespace llamita::int8 {

template <class D, class Format>
struct Panel {
  using S = typename D::S;
  using F = typename S::F;
  using I = typename S::I;
  static constexpr int kLanes = S::kLanes, R = D::kRowVectors, kRows = R * kLanes;
  static constexpr int kChunk = D::kChunk, kGroups = kChunk / 32, kBlockTokens = D::kBlockTokens;
  // With signed bytes or without, the largest block sums stay far from int32's end: 256 * 63 * 127 * 128.
  static constexpr bool kFlip = Format::kSigned && !D::kTakesSigned;  // w + 128 as unsigned
  static constexpr int kOffset = kFlip ? 128 : Format::kOffset;
  static constexpr int kRun = Format::kSuper ? 256 : 32;  // elements of a scale
  static constexpr int kScales = kChunk / kRun;
  // Mins of sub-blocks of 32 are multiplied two at a time with the sums of two 32.
  static constexpr bool kPairedMins = Format::kSuper && Format::kMins && Group<Format>::kSub == 32;
  static constexpr int kPairElems = kPairedMins ? 64 : 32;  // of a word of sub_pairs

  alignas(64) uint8_t weights[kChunk / 4][kRows * 4];
  alignas(64) float scales[kScales][kRows];
  alignas(64) float mins[kScales][kRows];              // m, or -dmin
  alignas(64) int32_t sub_scales[kChunk / 16][kRows];  // as D wants them
  alignas(64)
      int32_t sub_pairs[kChunk / kPairElems][kRows];  // two int16 of what multiplies the activations' sums
  alignas(64) uint16_t halves[2][kScales][kRows];
  alignas(64) float partial[kBlockTokens][kRows];

  [[gnu::always_inline]] static void store8(void* to, __m256i v) {
    _mm256_store_si256(static_cast<__m256i*>(to), v);
  }

  // Groups [g, g + groups) of eight rows into rows r to r + 7 of the panel.
  void unpack_bytes(const uint8_t* const (&rows)[8], int r, int64_t g, int groups) {
    for (int i = 0; i < groups; ++i) {
      __m256i bytes[8], turned[8];
      for (int j = 0; j < 8; ++j) {
        bytes[j] = Format::group(rows[j], g + i);
        if constexpr (kFlip) bytes[j] = _mm256_xor_si256(bytes[j], _mm256_set1_epi8(-128));
      }
      turn(bytes, turned);
      for (int j = 0; j < 8; ++j) store8(weights[8 * i + j] + 4 * r, turned[j]);
    }
  }

  // The fp16 scales lie a block apart: they are gathered as they are and converted a register at a time.
  void unpack_halves(const uint8_t* row, int r, int64_t first, int blocks) {
    const auto* block = reinterpret_cast<const typename Format::Block*>(row) + first;
    for (int i = 0; i < blocks; ++i) {
      __builtin_memcpy(&halves[0][i][r], &block[i].d, 2);
      if constexpr (Format::kMins && Format::kSuper) __builtin_memcpy(&halves[1][i][r], &block[i].dmin, 2);
      if constexpr (Format::kMins && !Format::kSuper) __builtin_memcpy(&halves[1][i][r], &block[i].m, 2);
    }
  }
  void convert_halves(int blocks) {
    for (int i = 0; i < blocks; ++i) {
      for (int r = 0; r < kRows; r += kLanes) {
        S::store(scales[i] + r, S::load_f16(halves[0][i] + r));
        if constexpr (Format::kMins) {
          const F m = S::load_f16(halves[1][i] + r);
          S::store(mins[i] + r, Format::kSuper ? S::mul(m, S::set(-1.0f)) : m);
        }
      }
    }
  }

  void unpack_sub_scales(const uint8_t* const (&rows)[8], int r, int64_t first, int blocks) {
    if constexpr (Format::kSuper) {
      for (int i = 0; i < blocks; ++i) {
        __m256i pairs[8], turned[8];
        for (int j = 0; j < 8; ++j) {
          pairs[j] = Format::scales(reinterpret_cast<const typename Format::Block*>(rows[j])[first + i]);
        }
        turn(pairs, turned);
        for (int j = 0; j < 8; ++j) {
          store8(sub_scales[16 * i + 2 * j] + r, D::low_scales(turned[j]));
          store8(sub_scales[16 * i + 2 * j + 1] + r, D::high_scales(turned[j]));
        }
        if constexpr (Format::kMins) {
          for (int j = 0; j < 8; ++j) {
            pairs[j] = Format::mins(reinterpret_cast<const typename Format::Block*>(rows[j])[first + i]);
          }
          turn(pairs, turned);
        }
        for (int j = 0; j < 256 / kPairElems; ++j) {
          const __m256i pair =
              kPairedMins ? _mm256_blend_epi16(turned[2 * j % 8], turned[(2 * j + 1) % 8], 0xaa) : turned[j];
          store8(sub_pairs[256 / kPairElems * i + j] + r, pair);
        }
      }
    }
  }

  // The same from an interleaved weight, whose registers lie there turned. Groups past the last repeat it.
  void unpack_groups(const LinearJob& job, int64_t n, int rows, int64_t g, int groups) {
    using Layout = Group<Format>;
    constexpr int64_t kBlockBytes = 8 * int64_t{sizeof(typename Format::Block)};
    const int blocks = groups * 32 / kRun;
    const bool last = (g + groups) * 32 >= job.K;
    for (int r = 0; r < kRows; r += 8) {
      const int row = r < rows ? r : rows - 8;
      const uint8_t* from = job.weight + (n + row) * job.weight_stride + g * 32 / kRun * kBlockBytes;
      const uint8_t* next =
          last ? job.weight + (n + row + kRows) * job.weight_stride : from + blocks * kBlockBytes;
      for (int i = 0; i < blocks; ++i, from += kBlockBytes) {
        for (int64_t line = 0; line < kBlockBytes; line += 64) {
          __builtin_prefetch(next + i * kBlockBytes + line);
        }
        unpack_group_scales(from, r, i);
        for (int sub = 0; sub < kRun / 32; ++sub) {
          __m256i steps[8];
          Layout::steps(from, sub, steps);
          for (int j = 0; j < 8; ++j) {
            if constexpr (kFlip) steps[j] = _mm256_xor_si256(steps[j], _mm256_set1_epi8(-128));
            store8(weights[8 * (i * kRun / 32 + sub) + j] + 4 * r, steps[j]);
          }
        }
      }
    }
  }

  [[gnu::always_inline]] void unpack_group_scales(const uint8_t* block, int r, int i) {
    using Block = typename Format::Block;
    _mm256_store_ps(scales[i] + r, halves_at(block, offsetof(Block, d)));
    if constexpr (Format::kMins && !Format::kSuper) {
      _mm256_store_ps(mins[i] + r, halves_at(block, offsetof(Block, m)));
    }
    if constexpr (Format::kSuper) {
      __m256i bytes[4];
      Group<Format>::scales(block, bytes);
#pragma GCC unroll 8
      for (int sub = 0; sub < 8; ++sub) {
        for (int half = 0; half < 2; ++half) {
          store8(sub_scales[16 * i + 2 * sub + half] + r,
                 D::scale_lanes(scale_of_half<Format>(bytes, sub, half)));
        }
      }
      if constexpr (Format::kMins) {
        Group<Format>::mins(block, bytes);
        const __m256 min = halves_at(block, offsetof(Block, dmin));
        _mm256_store_ps(mins[i] + r, _mm256_mul_ps(min, _mm256_set1_ps(-1.0f)));
      }
#pragma GCC unroll 8
      for (int j = 0; j < 256 / kPairElems; ++j) {
        const __m256i pair = kPairedMins ? pair_of_bytes(bytes[j / 2], j % 2 * 2, j % 2 * 2 + 1)
                                         : pair_of_scales<Format>(bytes, j);
        store8(sub_pairs[256 / kPairElems * i + j] + r, pair);
      }
    }
  }

  // Rows past the last one repeat it: they are computed and not written.
  void unpack(const LinearJob& job, int64_t n, int rows, int64_t g, int groups) {
    constexpr int64_t kBlockBytes = sizeof(typename Format::Block);
    const int64_t first = g * 32 / kRun, bytes = (groups * 32 / kRun) * kBlockBytes;
    const int blocks = groups * 32 / kRun;
    const bool last = (g + groups) * 32 >= job.K;
    for (int r = 0; r < kRows; r += 8) {
      const uint8_t* from[8];
      for (int j = 0; j < 8; ++j) {
        const int row = r + j < rows ? r + j : rows - 1;
        from[j] = job.weight + (n + row) * job.weight_stride;
        // What is unpacked next: the rows lie too far apart for the processor's own prefetcher.
        const uint8_t* next =
            last ? from[j] + kRows * job.weight_stride : from[j] + first * kBlockBytes + bytes;
        for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(next + i);
        unpack_halves(from[j], r + j, first, blocks);
      }
      unpack_bytes(from, r, g, groups);
      unpack_sub_scales(from, r, first, blocks);
    }
    convert_halves(blocks);
  }

  // What add_block reads of the activations, a tile's tokens beside each other.
  struct Scaled {
    const float* scales;       // (K / kRun, kTileTokens)
    const float* scaled_sums;  // the same; runs of 32 only
    const int32_t* sums;       // (K / kPairElems, kTileTokens)
    const int32_t* centres;    // (K / kCentred, kTileTokens)
    const int32_t* reach;      // (K / 256); runs of 256 only
  };
  static constexpr int kCentred = Format::kSuper ? 16 : 32;  // elements of a centre
  static Scaled scaled_at(const Int8Job& job, int64_t t, int64_t k) {
    const int64_t tile = t / kTileTokens, within = t % kTileTokens, K = job.plain.K;
    const int64_t run = (tile * (K / kRun) + k / kRun) * kTileTokens + within;
    const int64_t pair = (tile * (K / kPairElems) + k / kPairElems) * kTileTokens + within;
    return {job.x.tile_scales + run, Format::kSuper ? nullptr : job.x.tile_scaled_sums + run,
            (kPairedMins ? job.x.tile_pair_sums : job.x.tile_sums) + pair,
            job.x.tile_centres + (tile * (K / kCentred) + k / kCentred) * kTileTokens + within,
            Format::kSuper ? job.x.tile_reach + tile * (K / 256) + k / 256 : nullptr};
  }

  // The outputs wait in L1, because the registers belong to the integers: without this, compilers keep some
  // of them there, on the stack and in `out`.
  [[gnu::always_inline]] static void outputs_wait() { asm volatile("" : : : "memory"); }

  // The sums of one scale's elements, scaled and added to T x kRows outputs: the lines of int8.h.
  template <int T>
  [[gnu::always_inline]] void add_block(const Scaled& x, int block, const I (&sums)[R][T], float* out) const {
    constexpr int kOffsetBits = kOffset == 0 ? 0 : __builtin_ctz(kOffset);
    static_assert(kOffset == 0 || kOffset == 1 << kOffsetBits);
    if constexpr (!D::kVnni) outputs_wait();
#pragma GCC unroll 8
    for (int u = 0; u < T; ++u) {
      I less[R];  // the sums are too large by this
      for (int r = 0; r < R; ++r) less[r] = S::set_int(0);
      if constexpr (Format::kSuper && (Format::kMins || (kOffset != 0 && !D::kVnni))) {
#pragma GCC unroll 8
        for (int i = 0; i < 256 / kPairElems; ++i) {
          const I x_sum = S::set_int(x.sums[i * kTileTokens + u]);
          for (int r = 0; r < R; ++r) {
            const I pairs = D::load(sub_pairs[256 / kPairElems * block + i] + r * kLanes);
            less[r] = D::add_pairs(less[r], pairs, x_sum);
          }
        }
      } else if constexpr (kOffset != 0 && !D::kVnni) {
        less[0] = S::shift_left(S::set_int(x.sums[u]), kOffsetBits);
        for (int r = 1; r < R; ++r) less[r] = less[0];
      }
      const F d = S::set(x.scales[u]);
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r) {
        I sum = sums[r][u];
        if constexpr (D::kVnni) {
          // centred already
        } else if constexpr (Format::kSuper && kOffset != 0) {
          sum = D::subtract(sum, S::shift_left(less[r], kOffset == 32 ? 5 : 2));
        } else if constexpr (kOffset != 0) {
          sum = D::subtract(sum, less[r]);
        }
        float* at = out + u * kRows + r * kLanes;
        F acc = S::fma(S::mul(S::load(scales[block] + r * kLanes), d), S::to_float(sum), S::load(at));
        if constexpr (Format::kMins) {
          const F min = S::load(mins[block] + r * kLanes);
          acc = Format::kSuper ? S::fma(S::mul(min, d), S::to_float(less[r]), acc)
                               : S::fma(min, S::set(x.scaled_sums[u]), acc);
        }
        S::store(at, acc);
      }
    }
  }

  // The unpacked chunk, elements from k on, against T tokens from t. A function of its own for each T, so
  // that none costs another registers.
  template <int T>
  [[gnu::noinline]] void tile(const Int8Job& job, int64_t t, int64_t k, int groups, float* out) const {
    const int8_t* x = job.x.tiles + t / kTileTokens * kTileTokens * job.plain.K + t % kTileTokens * 4;
    Scaled scaled = scaled_at(job, t, k);
    if (k == 0) {
      for (int i = 0; i < T * kRows; i += kLanes) S::store(out + i, S::zero());
    }
    for (int g = 0; g < groups; g += kRun / 32) {
      I sums[R][T];
      if constexpr (D::kVnni) {
        outputs_wait();
        D::template dot_block<Format, kOffset, kRows>(weights[8 * g], x + (k + 32 * g) * kTileTokens,
                                                      sub_scales[2 * g], scaled.centres, scaled.reach, sums);
      } else {
        for (int r = 0; r < R; ++r) {
          for (int u = 0; u < T; ++u) sums[r][u] = S::set_int(0);
        }
        for (int i = g; i < g + kRun / 32; ++i) {
          D::template dot32<Format, kRows>(weights[8 * i], x + (k + 32 * i) * kTileTokens, sub_scales[2 * i],
                                           sums);
        }
      }
      add_block<T>(scaled, g * 32 / kRun, sums, out);
      scaled.scales += kTileTokens;
      if constexpr (!Format::kSuper) scaled.scaled_sums += kTileTokens;
      scaled.sums += (kRun < kPairElems ? kPairElems : kRun) / kPairElems * kTileTokens;
      scaled.centres += kRun / kCentred * kTileTokens;
      if constexpr (Format::kSuper) ++scaled.reach;
    }
  }

  // What a tile wants next comes meanwhile: the next tile's activations, which lie a whole row of tiles
  // ahead, and after the last chunk the outputs, rows of which lie too far apart for the processor's own
  // prefetcher.
  template <int T>
  void fetch_ahead(const Int8Job& job, int64_t t, int64_t k, int groups, const float* out) const {
    const int8_t* next = job.x.tiles + (t / kTileTokens + 1) * kTileTokens * job.plain.K + k * kTileTokens;
    const int64_t bytes = int64_t{groups} * 32 * T;
    next += t % kTileTokens * (bytes / T);
    for (int64_t line = 0; line < bytes; line += 64) __builtin_prefetch(next + line);
    if (out == nullptr) return;
    for (int u = 0; u < T; ++u) {
      for (int r = 0; r < kRows; r += 16) __builtin_prefetch(out + u * job.plain.out_stride + r, 1);
    }
  }

  // T tokens from t at a time, while there are that many before the end; with the last chunk of K to `out`.
  template <int T>
  void multiply_by(const Int8Job& job, int64_t k, int groups, int64_t n, int rows, int64_t t_begin,
                   int64_t& t, int64_t t_end) {
    const bool last = k + 32 * groups >= job.plain.K;
    for (; t + T <= t_end; t += T) {
      fetch_ahead<T>(job, t, k, groups, last ? job.plain.out + t * job.plain.out_stride + n : nullptr);
      tile<T>(job, t, k, groups, partial[t - t_begin]);
      if (last) write(job.plain, n, rows, t, t + T, partial[t - t_begin]);
    }
  }

  void multiply(const Int8Job& job, int64_t k, int groups, int64_t n, int rows, int64_t t_begin,
                int64_t t_end) {
    constexpr int kTokens = D::template tokens<Format>();  // at once; divides a tile
    static_assert(kTileTokens % kTokens == 0 && kBlockTokens % kTileTokens == 0);
    int64_t t = t_begin;
    multiply_by<kTokens>(job, k, groups, n, rows, t_begin, t, t_end);
    if constexpr (kTokens > 4) multiply_by<4>(job, k, groups, n, rows, t_begin, t, t_end);
    multiply_by<2>(job, k, groups, n, rows, t_begin, t, t_end);
    multiply_by<1>(job, k, groups, n, rows, t_begin, t, t_end);
  }

  static void write(const LinearJob& job, int64_t n, int rows, int64_t t_begin, int64_t t_end,
                    const float* sums) {
    for (int64_t t = t_begin; t < t_end; ++t, sums += kRows) {
      float* out = job.out + t * job.out_stride + n;
      const float* residual = job.residual == nullptr ? nullptr : job.residual + t * job.residual_stride + n;
      int r = 0;
      for (; r + kLanes <= rows; r += kLanes) {
        F value = S::load(sums + r);
        if (job.bias != nullptr) value = S::add(value, S::load(job.bias + n + r));
        if (job.residual != nullptr) value = S::add(value, S::load(residual + r));
        S::store(out + r, value);
      }
      for (; r < rows; ++r) {
        float value = sums[r];
        if (job.bias != nullptr) value += job.bias[n + r];
        if (job.residual != nullptr) value += residual[r];
        out[r] = value;
      }
    }
  }

  void run(const Int8Job& job, int64_t n, int rows) {
    const int64_t all = job.plain.K / 32;
    for (int64_t t = 0; t < job.plain.T; t += kBlockTokens) {
      const int64_t t_end = t + kBlockTokens < job.plain.T ? t + kBlockTokens : job.plain.T;
      for (int64_t g = 0; g < all; g += kGroups) {
        const int groups = static_cast<int>(g + kGroups < all ? kGroups : all - g);
        job.plain.interleaved ? unpack_groups(job.plain, n, rows, g, groups)
                              : unpack(job.plain, n, rows, g, groups);
        multiply(job, 32 * g, groups, n, rows, t, t_end);
      }
    }
  }
};

template <class D, class Format>
static void run_panels(const Int8Job& job, int64_t begin, int64_t end) {
  using P = Panel<D, Format>;
  P panel;
  for (int64_t n = begin; n < end; n += P::kRows) {
    panel.run(job, n, static_cast<int>(n + P::kRows < end ? P::kRows : end - n));
  }
}

template <class D>
static void multiply(const Int8Job& job, int64_t begin, int64_t end) {
  with_format(job.plain.format, [&]<class Format>() {
    if (job.plain.interleaved && job.plain.T <= D::kGroupTokens)
      return run_groups<D, Format>(job, begin, end);
    if constexpr (!Format::kSuper) {
      if (!job.plain.interleaved && job.plain.T == 1) return run_tokens<D, Format>(job, begin, end);
    }
    run_panels<D, Format>(job, begin, end);
  });
}

}  // namespace llamita::int8
