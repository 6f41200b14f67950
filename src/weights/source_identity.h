// What tells one model's files from another's, wherever they lie: the packed form is only good for the files
// that it was made from.
#pragma once

#include <cstdint>
#include <vector>

#include "weights/tensor_files.h"

namespace llamita {

// One file with tensors. Sizes, times and headers of two fine-tunes of a model may agree, their samples do
// not.
struct SourceFile {
  uint64_t bytes = 0;
  int64_t modified_ns = 0;
  uint64_t header = 0;   // checksum of all that stands before the first tensor: keys, names, shapes, places
  uint64_t samples = 0;  // checksum of pages of the tensors, evenly from first to last
  friend bool operator==(const SourceFile&, const SourceFile&) = default;
};

// Of the files that the tensors lie in, in the order of the tensors; empty for tensors that lie in no file.
std::vector<SourceFile> identify_sources(const TensorFiles& files);

}  // namespace llamita
