// Element and block formats. A plain type has blocks of one element; a GGUF block format stores `block_elems`
// consecutive elements of a row in `block_bytes` bytes. What the bytes of a block mean is in quant/.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace llamita {

enum class DType : uint8_t {
  f32,
  f16,
  bf16,
  f64,
  i8,
  i16,
  i32,
  i64,
  u8,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl,
};
inline constexpr int kDTypeCount = 20;

struct DTypeInfo {
  std::string_view name;  // as the field writes it: "F32", "Q4_K"
  int block_elems;
  int block_bytes;
  int ggml_type;  // the type id in GGUF files, -1 when GGUF has none
};

const DTypeInfo& info(DType dtype);
inline std::string_view name(DType dtype) { return info(dtype).name; }
inline bool is_block(DType dtype) { return info(dtype).block_elems > 1; }
inline bool is_float(DType dtype) {
  return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16;
}

// The format with this GGUF type id, or nothing when it is unknown here.
std::optional<DType> dtype_of_ggml(int64_t ggml_type);

// Bytes of a row of `elems` elements. The row must be whole blocks (checked).
int64_t row_bytes(DType dtype, int64_t elems);

}  // namespace llamita
