// device_sampling: the steps of sampling.h on a GPU, with everything that varies in device memory, so that a
// captured step can end with it: the token goes where the next step reads it. Chooses the same tokens as the
// CPU for the same logits. Logits are changed by steps 1 to 3; who wants probabilities takes them before.
#pragma once

#include "ops/op.h"

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
  int32_t bias_begin = 0, bias_end = 0;  // into bias
  int32_t seen_begin = 0, seen_end = 0;  // into seen
};
static_assert(sizeof(DeviceSamplingRow) == 64);

// A logit_bias entry; each id once a row, below vocab_limit.
struct DeviceBias {
  int32_t token;
  float value;
};
// As SeenToken; each id once a row, below vocab_limit.
struct DeviceSeen {
  int32_t token;
  int32_t in_reply;
};

struct DeviceSamplingArgs {
  Tensor logits;            // (R, V) f32, rows dense; changed
  int32_t vocab_limit = 0;  // 1 .. V
  Tensor rows;              // (R, sizeof(DeviceSamplingRow)) u8, 8-byte aligned
  Tensor bias;              // (n, sizeof(DeviceBias)) u8 or undefined
  Tensor seen;              // (n, sizeof(DeviceSeen)) u8 or undefined
  Tensor tokens;            // (R) i32 out; -1 as SampledToken::token
};

const Op<DeviceSamplingArgs>& device_sampling_op();
inline void device_sampling(const DeviceSamplingArgs& args, Context& context) {
  run(device_sampling_op(), args, context);
}

}  // namespace llamita
