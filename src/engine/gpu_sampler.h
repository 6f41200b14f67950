// GpuSampler: chooses a step's tokens on the card, where the logits are, so that a token's 4 bytes go back to
// the host instead of the logits' hundreds of kilobytes.
#pragma once

#include <span>
#include <vector>

#include "hw/cuda/stream.h"
#include "ops/sampling/device_sampling.h"
#include "ops/sampling/sampling.h"

namespace llamita {

class GpuSampler {
 public:
  // For steps of up to `rows` samplings on the current device, whose number is `device`.
  GpuSampler(int device, int rows);

  // Whether all that these rows ask for can be done on the card: a token of all, but no probabilities.
  static bool can_do(std::span<const SamplingRow> rows);

  // Chooses from the first rows.size() rows of `logits` (R, V), which are changed, and waits for the result.
  void choose(const Tensor& logits, int32_t vocab_limit, std::span<const SamplingRow> rows,
              std::span<SampledToken> out, Context& context);

 private:
  Tensor upload(const void* values, int64_t count, int64_t bytes_each, const cuda::Stream& stream);

  Device device_;
  Storage pinned_, memory_;  // parameters; they grow with long lists of biases and seen tokens
  size_t used_ = 0;
  Storage pinned_tokens_, tokens_;
  std::vector<DeviceSamplingRow> rows_;
  std::vector<DeviceBias> bias_;
  std::vector<DeviceSeen> seen_;
};

}  // namespace llamita
