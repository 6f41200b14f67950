// How rows lie in files and how they are turned the way kernels want them.
#pragma once

#include <algorithm>
#include <cstring>
#include <string_view>
#include <vector>

#include "quant/unpack.h"
#include "tensor/float16.h"
#include "tensor/made_up.h"
#include "tensor/storage.h"
#include "weights/loader.h"

namespace llamita {

// Numbers of the size that trained models have, each tensor's from its name.
MadeUp numbers_for(const StoredTensor& tensor);
// All of a tensor's made-up numbers in memory of the CPU.
Storage made_up_storage(const StoredTensor& tensor);

// Row n of a half-split weight, in a file that stores rotary pairs as neighbours: pair i of a head is rows i
// and i + D/2 for us, rows 2i and 2i + 1 in the file.
inline int64_t adjacent_row(int64_t n, int64_t head_dim) {
  const int64_t head = n / head_dim, i = n % head_dim, half = head_dim / 2;
  return head * head_dim + (i < half ? 2 * i : 2 * (i - half) + 1);
}

// (K, N) to (N, K), element by element; bytes of one element each `size`.
inline void transpose(const std::byte* from, std::byte* to, int64_t rows, int64_t cols, int64_t size) {
  constexpr int64_t kTile = 32;  // a tile of both sides stays in the first cache level
  for (int64_t n0 = 0; n0 < rows; n0 += kTile) {
    for (int64_t k0 = 0; k0 < cols; k0 += kTile) {
      for (int64_t n = n0; n < std::min(n0 + kTile, rows); ++n) {
        for (int64_t k = k0; k < std::min(k0 + kTile, cols); ++k) {
          std::memcpy(to + (n * cols + k) * size, from + (k * rows + n) * size, static_cast<size_t>(size));
        }
      }
    }
  }
}

// The head size whose rows are to be reordered, 0: none are.
inline int adjacent_head_dim(const TensorFiles& files, const PartSpec& part) {
  return files.rotary_pairs_adjacent() ? part.rotary_head_dim : 0;
}

inline int64_t elements(const StoredTensor& tensor) {
  int64_t product = 1;
  for (const int64_t dim : tensor.shape) product *= dim;
  return product;
}

// A vector, or a small table row by row, as f32, all of it, in the kernels' order.
inline void read_vector(const StoredTensor& tensor, int head_dim, float* values) {
  const int64_t n = elements(tensor);
  if (tensor.data.empty()) {
    const MadeUp numbers = numbers_for(tensor);
    for (int64_t i = 0; i < n; ++i)  // rounded as a file would have them
      values[i] = to_float(to_bf16(made_up_value(numbers, static_cast<uint64_t>(i))));
    return;
  }
  std::vector<float> stored(static_cast<size_t>(n));
  quant::unpack_row(tensor.dtype, tensor.data.data(), stored.data(), n);
  for (int64_t i = 0; i < n; ++i)
    values[i] = stored[static_cast<size_t>(head_dim > 0 ? adjacent_row(i, head_dim) : i)];
}

// Bytes in the file, or those that made-up numbers would take there.
inline int64_t stored_bytes(const StoredTensor& tensor) {
  if (!tensor.data.empty()) return static_cast<int64_t>(tensor.data.size());
  return elements(tensor) / info(tensor.dtype).block_elems * info(tensor.dtype).block_bytes;
}

}  // namespace llamita
