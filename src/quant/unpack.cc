#include "quant/unpack.h"

#include <cstring>

#include "base/check.h"

namespace llamita::quant {

namespace {

template <class Element>
void unpack_elements(const void* row, float* out, int64_t elems) {
  for (int64_t i = 0; i < elems; ++i) {
    Element value;
    std::memcpy(&value, static_cast<const std::byte*>(row) + i * static_cast<int64_t>(sizeof value),
                sizeof value);
    out[i] = to_float(value);
  }
}

template <class Block, int kElems>
void unpack_blocks(const void* row, float* out, int64_t elems) {
  const auto* blocks = static_cast<const Block*>(row);
  for (int64_t b = 0; b < elems / kElems; ++b) unpack_block(blocks[b], out + b * kElems);
}

}  // namespace

bool is_weight_format(DType format) { return is_float(format) || is_block(format); }

void unpack_row(DType format, const void* row, float* out, int64_t elems) {
  LLAMITA_CHECK(elems >= 0 && elems % info(format).block_elems == 0, elems, " elements are no whole ",
                name(format), " blocks");
  switch (format) {
    case DType::f32: return unpack_elements<float>(row, out, elems);
    case DType::f16: return unpack_elements<f16>(row, out, elems);
    case DType::bf16: return unpack_elements<bf16>(row, out, elems);
    case DType::q4_0: return unpack_blocks<BlockQ4_0, kBlock>(row, out, elems);
    case DType::q4_1: return unpack_blocks<BlockQ4_1, kBlock>(row, out, elems);
    case DType::q5_0: return unpack_blocks<BlockQ5_0, kBlock>(row, out, elems);
    case DType::q5_1: return unpack_blocks<BlockQ5_1, kBlock>(row, out, elems);
    case DType::q8_0: return unpack_blocks<BlockQ8_0, kBlock>(row, out, elems);
    case DType::iq4_nl: return unpack_blocks<BlockIQ4_NL, kBlock>(row, out, elems);
    case DType::q2_k: return unpack_blocks<BlockQ2_K, kSuperBlock>(row, out, elems);
    case DType::q3_k: return unpack_blocks<BlockQ3_K, kSuperBlock>(row, out, elems);
    case DType::q4_k: return unpack_blocks<BlockQ4_K, kSuperBlock>(row, out, elems);
    case DType::q5_k: return unpack_blocks<BlockQ5_K, kSuperBlock>(row, out, elems);
    case DType::q6_k: return unpack_blocks<BlockQ6_K, kSuperBlock>(row, out, elems);
    default: LLAMITA_CHECK(false, name(format), " is no weight format");
  }
}

}  // namespace llamita::quant
