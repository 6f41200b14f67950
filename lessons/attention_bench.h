// Checks and timings of one step of the attention ladder, in the process that calls them.
#pragma once

#include <vector>

#include "hw/cuda/device_properties.h"
#include "hw/cuda/stream.h"
#include "lessons/attention.h"
#include "tensor/storage.h"

namespace llamita::lessons {

struct AttentionShape {
  int batch, tokens, heads, kv_heads, dim;
  bool causal;
  float scale;
};

// 16 heads, B T = 16,384: T 2k..16k, D 64 and 128, causal and full.
std::vector<AttentionShape> attention_shapes();

class AttentionBench {
 public:
  AttentionBench();

  const cuda::DeviceProperties& device() const { return device_; }
  bool check(const AttentionLesson& lesson);  // prints a line for each shape that fails
  // Prints a row: microseconds and TFLOP/s, causal counted as half. False when the answer is wrong.
  bool time(const AttentionLesson& lesson, const AttentionShape& shape);

 private:
  struct Buffers;
  AttentionContext context(const Storage& workspace) const;

  cuda::DeviceProperties device_;
  cuda::Stream stream_;
  Storage tickets_;
  uint64_t seed_;
};

double attention_flop(const AttentionShape& shape);

}  // namespace llamita::lessons
