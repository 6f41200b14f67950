// Weight: a matrix as it is stored for multiplication. Not a Tensor, because its bytes are blocks in a layout
// of their own, and because matrices that share an input are fused row by row (q|k|v, gate|up) while files
// may store each in another format: every part has its own.
//
//   Weight qkv{.cols = 576, .parts = {{"q", DType::q4_k, 576, q}, {"k", DType::q4_k, 192, k},
//                                     {"v", DType::q6_k, 192, v}}};
//   for (const Part& part : qkv.parts) …   // a kernel takes the parts one after the other
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/storage.h"

namespace llamita::quant {

// How a part's blocks lie in its storage.
enum class Layout : uint8_t {
  rows,         // (experts, rows, cols), each row as in the file; a row may start at any byte
  interleaved,  // groups of eight rows, unit by unit: interleave.h; block formats only
};

// Consecutive rows of a Weight in one format.
struct Part {
  std::string name;  // what it is: "q", "gate"
  DType format = DType::f32;
  int64_t rows = 0;
  Storage storage;
};

struct Weight {  // (experts, N, K)
  Layout layout = Layout::rows;
  int64_t experts = 1;
  int64_t cols = 0;  // K, whole blocks of every part's format
  std::vector<Part> parts;

  bool defined() const { return !parts.empty(); }  // false: an optional weight that is absent
  int64_t rows() const;                            // N: the rows of all parts
  int64_t bytes() const;                           // of all parts and experts
  // The same shape in parts of the same formats, laid out alike: what one kernel takes of the one, and how
  // long it needs, holds for the other.
  bool stored_like(const Weight& other) const;
  // The first byte of row n, 0 <= n < N, of one expert (checked). For Layout::rows only.
  const void* row(int64_t n, int64_t expert = 0) const;
};

// Row n of the weight as `cols` floats.
void unpack_row(const Weight& weight, int64_t n, float* out, int64_t expert = 0);

}  // namespace llamita::quant
