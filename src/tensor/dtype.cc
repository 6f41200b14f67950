#include "tensor/dtype.h"

#include "base/check.h"

namespace llamita {

namespace {

constexpr DTypeInfo kInfo[kDTypeCount] = {
    {"F32", 1, 4, 0},       {"F16", 1, 2, 1},       {"BF16", 1, 2, 30},     {"F64", 1, 8, 28},
    {"I8", 1, 1, 24},       {"I16", 1, 2, 25},      {"I32", 1, 4, 26},      {"I64", 1, 8, 27},
    {"U8", 1, 1, -1},       {"Q4_0", 32, 18, 2},    {"Q4_1", 32, 20, 3},    {"Q5_0", 32, 22, 6},
    {"Q5_1", 32, 24, 7},    {"Q8_0", 32, 34, 8},    {"Q2_K", 256, 84, 10},  {"Q3_K", 256, 110, 11},
    {"Q4_K", 256, 144, 12}, {"Q5_K", 256, 176, 13}, {"Q6_K", 256, 210, 14}, {"IQ4_NL", 32, 18, 20},
};

}  // namespace

const DTypeInfo& info(DType dtype) { return kInfo[static_cast<int>(dtype)]; }

std::optional<DType> dtype_of_ggml(int64_t ggml_type) {
  for (int i = 0; i < kDTypeCount; ++i) {
    if (ggml_type >= 0 && kInfo[i].ggml_type == ggml_type) return static_cast<DType>(i);
  }
  return std::nullopt;
}

int64_t row_bytes(DType dtype, int64_t elems) {
  const DTypeInfo& format = info(dtype);
  LLAMITA_CHECK(elems % format.block_elems == 0, elems, " elements are no whole ", format.name, " blocks");
  return elems / format.block_elems * format.block_bytes;
}

}  // namespace llamita
