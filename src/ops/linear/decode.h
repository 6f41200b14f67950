// Block formats to vectors of f32, for the per-ISA kernels. A decoder gives 32 consecutive elements of a row,
// group g standing for elements 32 g to 32 g + 31, as 32 / lanes vectors in ascending order.
//
// The values are those of quant::unpack_row, to the bit but for the sign of zero: a stored integer times its
// scale has at most 23 significant bits (fp16 11, sub-block scale at most 7, integer at most 5), so the
// product is exact in f32 and a fused multiply-add rounds where unpack_row rounds: at the sum.
#pragma once

#include <immintrin.h>

#include "quant/blocks.h"
#include "tensor/dtype.h"

namespace llamita::decode {

using namespace quant;  // the structs of the blocks

// The kernels' own float of an fp16: std::bit_cast must not be instantiated in a per-ISA file.
[[gnu::always_inline]] static inline float scale_of(const Half& half) {
  return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(half.bytes[0] | half.bytes[1] << 8)));
}

template <class S>
struct Lanes {
  static constexpr int kLanes = S::kLanes;
  static constexpr int kHalf = 16 / kLanes;   // vectors of 16 elements
  static constexpr int kGroup = 32 / kLanes;  // and of 32
  using F = typename S::F;
  using I = typename S::I;

  // Elements 0 to 15 are low nibbles, 16 to 31 high ones; use(vector, integers) for each vector.
  template <class Use>
  [[gnu::always_inline]] static void nibbles16(const uint8_t* bytes, Use use) {
    for (int i = 0; i < kHalf; ++i) {
      const I both = S::load_u8(bytes + i * kLanes);
      use(i, S::bit_and(both, 15));
      use(kHalf + i, S::shift_right(both, 4));
    }
  }
  // Bit 4 of the elements of vector i, from 32 bits that hold element j's at bit j.
  [[gnu::always_inline]] static I fifth_bits(const uint8_t* bits, int i) {
    const int word =
        bits[0] | bits[1] << 8 | bits[2] << 16 | static_cast<int>(static_cast<uint32_t>(bits[3]) << 24);
    const I counts = S::add(S::lane_numbers(), S::set_int(i * kLanes));
    return S::shift_left(S::bit_and(S::shift_right(S::set_int(word), counts), 1), 4);
  }
};

template <class S>
struct Q4_0 : Lanes<S> {
  using typename Lanes<S>::F, typename Lanes<S>::I;
  [[gnu::always_inline]] static void group(const uint8_t* row, int64_t g, F* out) {
    const auto& block = reinterpret_cast<const BlockQ4_0*>(row)[g];
    const F scale = S::set_f16(&block.d), offset = S::mul(scale, S::set(-8.0f));
    Lanes<S>::nibbles16(block.nibbles, [&](int i, I q) { out[i] = S::fma(S::to_float(q), scale, offset); });
  }
};

template <class S>
struct Q4_1 : Lanes<S> {
  using typename Lanes<S>::F, typename Lanes<S>::I;
  [[gnu::always_inline]] static void group(const uint8_t* row, int64_t g, F* out) {
    const auto& block = reinterpret_cast<const BlockQ4_1*>(row)[g];
    F scale, offset;
    S::set_f16_pair(&block.d, scale, offset);
    Lanes<S>::nibbles16(block.nibbles, [&](int i, I q) { out[i] = S::fma(S::to_float(q), scale, offset); });
  }
};

template <class S>
struct Q5_0 : Lanes<S> {
  using typename Lanes<S>::F, typename Lanes<S>::I;
  [[gnu::always_inline]] static void group(const uint8_t* row, int64_t g, F* out) {
    const auto& block = reinterpret_cast<const BlockQ5_0*>(row)[g];
    const F scale = S::set_f16(&block.d), offset = S::mul(scale, S::set(-16.0f));
    Lanes<S>::nibbles16(block.nibbles, [&](int i, I q) {
      out[i] = S::fma(S::to_float(S::bit_or(q, Lanes<S>::fifth_bits(block.high_bits, i))), scale, offset);
    });
  }
};

template <class S>
struct Q5_1 : Lanes<S> {
  using typename Lanes<S>::F, typename Lanes<S>::I;
  [[gnu::always_inline]] static void group(const uint8_t* row, int64_t g, F* out) {
    const auto& block = reinterpret_cast<const BlockQ5_1*>(row)[g];
    F scale, offset;
    S::set_f16_pair(&block.d, scale, offset);
    Lanes<S>::nibbles16(block.nibbles, [&](int i, I q) {
      out[i] = S::fma(S::to_float(S::bit_or(q, Lanes<S>::fifth_bits(block.high_bits, i))), scale, offset);
    });
  }
};

template <class S>
struct Q8_0 : Lanes<S> {
  using typename Lanes<S>::F;
  [[gnu::always_inline]] static void group(const uint8_t* row, int64_t g, F* out) {
    const auto& block = reinterpret_cast<const BlockQ8_0*>(row)[g];
    const F scale = S::set_f16(&block.d);
    for (int i = 0; i < Lanes<S>::kGroup; ++i) {
      out[i] = S::mul(S::to_float(S::load_i8(block.q + i * S::kLanes)), scale);
    }
  }
};

template <class S>
struct IQ4_NL : Lanes<S> {
  using typename Lanes<S>::F, typename Lanes<S>::I;
  [[gnu::always_inline]] static void group(const uint8_t* row, int64_t g, F* out) {
    const auto& block = reinterpret_cast<const BlockIQ4_NL*>(row)[g];
    const F scale = S::set_f16(&block.d);
    Lanes<S>::nibbles16(
        block.nibbles, [&](int i, I q) { out[i] = S::mul(S::to_float(S::lookup_i8(kIQ4Values, q)), scale); });
  }
};

// Of the super-blocks, group g is the 32 elements `sub` = g % 8 of block g / 8.

template <class S>
struct Q2_K : Lanes<S> {
  using typename Lanes<S>::F, typename Lanes<S>::I;
  [[gnu::always_inline]] static void group(const uint8_t* row, int64_t g, F* out) {
    const auto& block = reinterpret_cast<const BlockQ2_K*>(row)[g >> 3];
    const int sub = static_cast<int>(g & 7);
    const float d = scale_of(block.d), dmin = scale_of(block.dmin);
    for (int i = 0; i < Lanes<S>::kGroup; ++i) {
      const int packed = block.scales[2 * sub + i / Lanes<S>::kHalf];
      const F scale = S::set(d * static_cast<float>(packed & 15));
      const F offset = S::set(-dmin * static_cast<float>(packed >> 4));
      const I bytes = S::load_u8(block.pairs + sub / 4 * 32 + i * S::kLanes);
      out[i] = S::fma(S::to_float(S::bit_and(S::shift_right(bytes, 2 * (sub % 4)), 3)), scale, offset);
    }
  }
};

template <class S>
struct Q3_K : Lanes<S> {
  using typename Lanes<S>::F, typename Lanes<S>::I;
  [[gnu::always_inline]] static void group(const uint8_t* row, int64_t g, F* out) {
    const auto& block = reinterpret_cast<const BlockQ3_K*>(row)[g >> 3];
    const int sub = static_cast<int>(g & 7);
    const float d = scale_of(block.d);
    for (int i = 0; i < Lanes<S>::kGroup; ++i) {
      const int s = 2 * sub + i / Lanes<S>::kHalf;
      const int low = s < 8 ? block.scales[s] & 15 : block.scales[s - 8] >> 4;
      const int high = block.scales[8 + s % 4] >> (2 * (s / 4)) & 3;
      const float scale = d * static_cast<float>((low | high << 4) - 32);
      const I pair = S::bit_and(
          S::shift_right(S::load_u8(block.pairs + sub / 4 * 32 + i * S::kLanes), 2 * (sub % 4)), 3);
      const I bit = S::bit_and(S::shift_right(S::load_u8(block.high_bits + i * S::kLanes), sub), 1);
      const F q = S::to_float(S::bit_or(pair, S::shift_left(bit, 2)));
      out[i] = S::fma(q, S::set(scale), S::set(-4 * scale));
    }
  }
};

// The scale and the min of one 32 of Q4_K and Q5_K (blocks.h: unpack_scales_q4_k).
struct ScaleMin {
  float scale, offset;
};
template <class Block>
[[gnu::always_inline]] static inline ScaleMin scale_min(const Block& block, int sub) {
  const uint8_t* p = block.scales;
  const int scale = sub < 4 ? p[sub] & 63 : (p[sub + 4] & 15) | p[sub - 4] >> 6 << 4;
  const int min = sub < 4 ? p[sub + 4] & 63 : p[sub + 4] >> 4 | p[sub] >> 6 << 4;
  return {scale_of(block.d) * static_cast<float>(scale), -scale_of(block.dmin) * static_cast<float>(min)};
}

template <class S>
struct Q4_K : Lanes<S> {
  using typename Lanes<S>::F, typename Lanes<S>::I;
  [[gnu::always_inline]] static void group(const uint8_t* row, int64_t g, F* out) {
    const auto& block = reinterpret_cast<const BlockQ4_K*>(row)[g >> 3];
    const int sub = static_cast<int>(g & 7);
    const ScaleMin s = scale_min(block, sub);
    for (int i = 0; i < Lanes<S>::kGroup; ++i) {
      const I bytes = S::load_u8(block.nibbles + sub / 2 * 32 + i * S::kLanes);
      const I q = S::bit_and(S::shift_right(bytes, 4 * (sub & 1)), 15);
      out[i] = S::fma(S::to_float(q), S::set(s.scale), S::set(s.offset));
    }
  }
};

template <class S>
struct Q5_K : Lanes<S> {
  using typename Lanes<S>::F, typename Lanes<S>::I;
  [[gnu::always_inline]] static void group(const uint8_t* row, int64_t g, F* out) {
    const auto& block = reinterpret_cast<const BlockQ5_K*>(row)[g >> 3];
    const int sub = static_cast<int>(g & 7);
    const ScaleMin s = scale_min(block, sub);
    for (int i = 0; i < Lanes<S>::kGroup; ++i) {
      const I bytes = S::load_u8(block.nibbles + sub / 2 * 32 + i * S::kLanes);
      const I bit = S::bit_and(S::shift_right(S::load_u8(block.high_bits + i * S::kLanes), sub), 1);
      const I q = S::bit_or(S::bit_and(S::shift_right(bytes, 4 * (sub & 1)), 15), S::shift_left(bit, 4));
      out[i] = S::fma(S::to_float(q), S::set(s.scale), S::set(s.offset));
    }
  }
};

template <class S>
struct Q6_K : Lanes<S> {
  using typename Lanes<S>::F, typename Lanes<S>::I;
  [[gnu::always_inline]] static void group(const uint8_t* row, int64_t g, F* out) {
    const auto& block = reinterpret_cast<const BlockQ6_K*>(row)[g >> 3];
    const int sub = static_cast<int>(g & 7), half = sub / 4, quarter = sub % 4;
    const float d = scale_of(block.d);
    for (int i = 0; i < Lanes<S>::kGroup; ++i) {
      const float scale = d * static_cast<float>(block.scales[2 * sub + i / Lanes<S>::kHalf]);
      const I bytes = S::load_u8(block.nibbles + half * 64 + quarter % 2 * 32 + i * S::kLanes);
      const I low = S::bit_and(S::shift_right(bytes, quarter / 2 * 4), 15);
      const I pair =
          S::bit_and(S::shift_right(S::load_u8(block.pairs + half * 32 + i * S::kLanes), 2 * quarter), 3);
      out[i] =
          S::fma(S::to_float(S::bit_or(low, S::shift_left(pair, 4))), S::set(scale), S::set(-32 * scale));
    }
  }
};

// The plain types, whose rows need not be whole groups: `bytes` of an element.

template <class S>
struct F32 : Lanes<S> {
  static constexpr int kElementBytes = 4;
  [[gnu::always_inline]] static void group(const uint8_t* row, int64_t g, typename S::F* out) {
    for (int i = 0; i < Lanes<S>::kGroup; ++i) {
      out[i] = S::load(reinterpret_cast<const float*>(row + g * 128) + i * S::kLanes);
    }
  }
};

template <class S>
struct F16 : Lanes<S> {
  static constexpr int kElementBytes = 2;
  [[gnu::always_inline]] static void group(const uint8_t* row, int64_t g, typename S::F* out) {
    for (int i = 0; i < Lanes<S>::kGroup; ++i) out[i] = S::load_f16(row + g * 64 + i * S::kLanes * 2);
  }
};

template <class S>
struct BF16 : Lanes<S> {
  static constexpr int kElementBytes = 2;
  [[gnu::always_inline]] static void group(const uint8_t* row, int64_t g, typename S::F* out) {
    for (int i = 0; i < Lanes<S>::kGroup; ++i) out[i] = S::load_bf16(row + g * 64 + i * S::kLanes * 2);
  }
};

template <class Format>
concept Plain = Format::kElementBytes >
0;

// Group g of a row of K elements, the last one filled up with zeros.
template <class S, template <class> class Format>
[[gnu::always_inline]] static inline void group_of(const uint8_t* row, int64_t K, int64_t g,
                                                   typename S::F* out) {
  if constexpr (Plain<Format<S>>) {
    constexpr int64_t kBytes = Format<S>::kElementBytes;
    if (32 * (g + 1) > K) {
      uint8_t padded[32 * kBytes] = {};
      for (int64_t i = 0; i < (K - 32 * g) * kBytes; ++i) padded[i] = row[32 * g * kBytes + i];
      return Format<S>::group(padded, 0, out);
    }
  }
  Format<S>::group(row, g, out);
}

// use.operator()<Format>() with the decoder of a dtype; nothing happens for what is no weight format.
template <class Use>
[[gnu::always_inline]] static inline void with_format(DType format, Use use) {
  switch (format) {
    case DType::f32: return use.template operator()<F32>();
    case DType::f16: return use.template operator()<F16>();
    case DType::bf16: return use.template operator()<BF16>();
    case DType::q4_0: return use.template operator()<Q4_0>();
    case DType::q4_1: return use.template operator()<Q4_1>();
    case DType::q5_0: return use.template operator()<Q5_0>();
    case DType::q5_1: return use.template operator()<Q5_1>();
    case DType::q8_0: return use.template operator()<Q8_0>();
    case DType::q2_k: return use.template operator()<Q2_K>();
    case DType::q3_k: return use.template operator()<Q3_K>();
    case DType::q4_k: return use.template operator()<Q4_K>();
    case DType::q5_k: return use.template operator()<Q5_K>();
    case DType::q6_k: return use.template operator()<Q6_K>();
    case DType::iq4_nl: return use.template operator()<IQ4_NL>();
    default: return;
  }
}

}  // namespace llamita::decode
