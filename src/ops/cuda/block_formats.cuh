// The stored weight formats in device code: one element, or the eight of a lane that mma fragments take.
// quant/blocks.h says what each byte of a block is. A part's rows start at even addresses (every block has an
// even length), so two bytes are read at once.
//
// In a chunk of 32 elements, lane quarter q (0..3) has elements 4q .. 4q+3 and 16+4q .. 16+4q+3: in the
// formats whose low nibbles are the first half of a block and whose high ones the second, these are four
// neighbouring bytes.
#pragma once

#include "ops/cuda/element.cuh"

namespace llamita::device {

// Formats that kernels read as they are stored.
__host__ __device__ constexpr bool is_cuda_weight_format(DType format) {
  return format == DType::f32 || format == DType::bf16 || format == DType::f16 || format == DType::q4_0 ||
         format == DType::q4_1 || format == DType::q8_0 || format == DType::q4_k || format == DType::q6_k;
}

__device__ __forceinline__ uint32_t load_u16(const uint8_t* p) {
  return __ldg(reinterpret_cast<const unsigned short*>(p));
}
// At an even address.
__device__ __forceinline__ uint32_t load_u32(const uint8_t* p) { return load_u16(p) | load_u16(p + 2) << 16; }
// At a multiple of four.
__device__ __forceinline__ uint32_t load_u32_aligned(const uint8_t* p) {
  return __ldg(reinterpret_cast<const unsigned int*>(p));
}

__device__ __forceinline__ float half_bits(uint32_t bits) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
}
__device__ __forceinline__ float load_half(const uint8_t* p) { return half_bits(load_u16(p)); }

// Byte i of a register.
__device__ __forceinline__ uint32_t byte_of(uint32_t word, int i) { return word >> (8 * i) & 0xFFu; }
__device__ __forceinline__ int signed_byte_of(uint32_t word, int i) {
  return static_cast<int8_t>(word >> (8 * i));
}

// Scale and min of sub-block `sub` (0..7) of a Q4_K block, from its twelve packed bytes (aligned).
struct ScaleMin {
  float scale, min;
};
__device__ __forceinline__ ScaleMin q4_k_scale_min(const uint8_t* block, int sub) {
  const uint32_t halves = load_u32_aligned(block);
  const float d = half_bits(halves & 0xFFFFu), dmin = half_bits(halves >> 16);
  const uint32_t a = load_u32_aligned(block + 4), b = load_u32_aligned(block + 8),
                 c = load_u32_aligned(block + 12);
  const int i = sub & 3;
  uint32_t scale, min;
  if (sub < 4) {
    scale = byte_of(a, i) & 63;
    min = byte_of(b, i) & 63;
  } else {
    scale = (byte_of(c, i) & 15) | byte_of(a, i) >> 6 << 4;
    min = byte_of(c, i) >> 4 | byte_of(b, i) >> 6 << 4;
  }
  return {d * static_cast<float>(scale), dmin * static_cast<float>(min)};
}

// Rounds a product before a sum, as quant/unpack.h does: the compiler must not fuse them.
__device__ __forceinline__ float scale_plus(float scale, float q, float offset) {
  return __fadd_rn(__fmul_rn(scale, q), offset);
}

// The eight elements of lane quarter q of chunk `chunk` (32 elements) of a row.
template <DType kFormat>
__device__ __forceinline__ void decode8(const uint8_t* row, int chunk, int q, float (&w)[8]) {
  if constexpr (kFormat == DType::f32) {
    const float* p = reinterpret_cast<const float*>(row) + 32 * chunk + 4 * q;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      w[i] = __ldg(p + i);
      w[4 + i] = __ldg(p + 16 + i);
    }
  } else if constexpr (kFormat == DType::bf16 || kFormat == DType::f16) {
    const uint8_t* p = row + 2 * (32 * chunk + 4 * q);
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const uint32_t bits = load_u16(p + 32 * half + 2 * i);
        w[4 * half + i] = kFormat == DType::bf16 ? __uint_as_float(bits << 16) : half_bits(bits);
      }
  } else if constexpr (kFormat == DType::q4_0) {
    const uint8_t* block = row + chunk * 18;
    const float d = load_half(block);
    const uint32_t bytes = load_u32(block + 2 + 4 * q);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      w[i] = d * static_cast<float>(static_cast<int>(byte_of(bytes, i) & 15) - 8);
      w[4 + i] = d * static_cast<float>(static_cast<int>(byte_of(bytes, i) >> 4) - 8);
    }
  } else if constexpr (kFormat == DType::q4_1) {
    const uint8_t* block = row + chunk * 20;
    const float d = load_half(block), m = load_half(block + 2);
    const uint32_t bytes = load_u32(block + 4 + 4 * q);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      w[i] = scale_plus(d, static_cast<float>(byte_of(bytes, i) & 15), m);
      w[4 + i] = scale_plus(d, static_cast<float>(byte_of(bytes, i) >> 4), m);
    }
  } else if constexpr (kFormat == DType::q8_0) {
    const uint8_t* block = row + chunk * 34;
    const float d = load_half(block);
    const uint32_t low = load_u32(block + 2 + 4 * q), high = load_u32(block + 18 + 4 * q);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      w[i] = d * static_cast<float>(signed_byte_of(low, i));
      w[4 + i] = d * static_cast<float>(signed_byte_of(high, i));
    }
  } else if constexpr (kFormat == DType::q4_k) {
    const uint8_t* block = row + chunk / 8 * 144;
    const int sub = chunk % 8;
    const ScaleMin s = q4_k_scale_min(block, sub);
    const uint8_t* nibbles = block + 16 + sub / 2 * 32 + 4 * q;
    const int shift = sub % 2 * 4;
    const uint32_t low = load_u32_aligned(nibbles) >> shift, high = load_u32_aligned(nibbles + 16) >> shift;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      w[i] = scale_plus(s.scale, static_cast<float>(byte_of(low, i) & 15), -s.min);
      w[4 + i] = scale_plus(s.scale, static_cast<float>(byte_of(high, i) & 15), -s.min);
    }
  } else {
    static_assert(kFormat == DType::q6_k);
    const uint8_t* block = row + chunk / 8 * 210;
    const int sub = chunk % 8, half = sub / 4, quarter = sub % 4;
    const float d = load_half(block + 208);
    const uint32_t scales = load_u16(block + 192 + 2 * sub);
    const uint8_t* nibbles = block + half * 64 + quarter % 2 * 32 + 4 * q;
    const uint8_t* pairs = block + 128 + half * 32 + 4 * q;
#pragma unroll
    for (int part = 0; part < 2; ++part) {
      const uint32_t low = load_u32(nibbles + 16 * part) >> (quarter / 2 * 4);
      const uint32_t high = load_u32(pairs + 16 * part) >> (2 * quarter);
      const float scale = d * static_cast<float>(static_cast<int8_t>(scales >> (8 * part)));
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const uint32_t value = (byte_of(low, i) & 15) | (byte_of(high, i) & 3) << 4;
        w[4 * part + i] = scale * static_cast<float>(static_cast<int>(value) - 32);
      }
    }
  }
}

// f.template operator()<format>(): from a format known at run time to code for it.
template <class F>
__device__ __forceinline__ void with_format(DType format, F&& f) {
  switch (format) {
    case DType::f32: return f.template operator()<DType::f32>();
    case DType::bf16: return f.template operator()<DType::bf16>();
    case DType::f16: return f.template operator()<DType::f16>();
    case DType::q4_0: return f.template operator()<DType::q4_0>();
    case DType::q4_1: return f.template operator()<DType::q4_1>();
    case DType::q8_0: return f.template operator()<DType::q8_0>();
    case DType::q4_k: return f.template operator()<DType::q4_k>();
    case DType::q6_k: return f.template operator()<DType::q6_k>();
    default: return;
  }
}

// Element j of lane quarter q in its chunk.
__device__ __forceinline__ int decoded_element(int q, int j) { return j / 4 * 16 + 4 * q + j % 4; }

}  // namespace llamita::device
