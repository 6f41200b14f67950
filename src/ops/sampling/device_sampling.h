// device_sampling: the steps of sampling.h on a GPU, with everything that varies in device memory, so that a
// captured step can end with it: the token goes where the next step reads it. Chooses the same tokens as the
// CPU for the same logits. Logits are changed by steps 1 to 3; who wants probabilities takes them before.
#pragma once

#include <span>
#include <vector>

#include "ops/op.h"
#include "ops/sampling/sampling.h"

namespace llamita {

// One row's parameters as they lie in device memory.
struct DeviceSamplingRow {
  float temperature = 1.0f;
  float top_p = 1.0f;
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;
  float frequency_penalty = 0.0f;
  float presence_penalty = 0.0f;
  int32_t top_k = 0;    // 0: all
  uint32_t choice = 0;  // of the request's replies
  uint64_t seed = 0;
  uint64_t position = 0;                 // of the new token in its sequence
  int32_t bias_begin = 0, bias_end = 0;  // into entries
  int32_t seen_begin = 0, seen_end = 0;  // into entries
  // SamplingRow::late_token is token_ids[late], which may have been chosen on the device; -1: there is none.
  int32_t late = -1;
  int32_t unused = 0;
  int32_t* copy = nullptr;  // where the token goes besides `tokens`, say page-locked memory of the host
};
static_assert(sizeof(DeviceSamplingRow) == 80);

// A logit_bias entry, or a token seen and how often in the reply (a float: exact up to 16 million); each id
// once in a row's range, below vocab_limit.
struct DeviceTokenEntry {
  int32_t token;
  float value;
};

// Rows as they are to be in device memory.
struct DeviceSamplingRows {
  std::vector<DeviceSamplingRow> rows;
  std::vector<DeviceTokenEntry> entries;

  void clear();
  // Takes what can be done on a device: not `allowed`, not `logprobs`, and late_token is the caller's to set.
  void add(const SamplingRow& row);
};

struct DeviceSamplingArgs {
  Tensor logits;            // (R, V) f32, rows dense; changed
  int32_t vocab_limit = 0;  // 1 .. V
  Tensor rows;              // (R, sizeof(DeviceSamplingRow)) u8, 8-byte aligned
  Tensor entries;           // (n, sizeof(DeviceTokenEntry)) u8 or undefined
  Tensor token_ids;         // (T) i32 or undefined: of the step, for `late`
  Tensor tokens;            // (R) i32 out; -1 as SampledToken::token
};

const Op<DeviceSamplingArgs>& device_sampling_op();
inline void device_sampling(const DeviceSamplingArgs& args, Context& context) {
  run(device_sampling_op(), args, context);
}

}  // namespace llamita
