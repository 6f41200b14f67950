// sampling: from each row of logits one token, and what was asked about probabilities. In this order:
//   1. logit_bias is added
//   2. repetition penalty (Keskar et al. 2019) over all tokens seen: positive logits / r, others * r
//   3. frequency penalty * count and presence penalty are subtracted for the tokens of the reply
//      Tokens that `allowed` leaves out get -infinity: what follows is about the others alone
//   4. temperature divides; 0 takes the best token, the lowest id of equals, and ends here
//   5. top-k keeps the k best tokens, of equal logits the lower ids
//   6. top-p keeps the fewest of those, best first, that hold a share p of their probability (Holtzman 2020)
//   7. min-p keeps those at least min_p times as probable as the best
//   8. a random number picks one: weights added in order of id, the first sum above the number
// Weights are integers (integer_weight.h), so sums are exact: the choice is the same on any number of threads
// and on any device. Tokens from `vocab_limit` on (padding of the output matrix) are never chosen.
#pragma once

#include <span>
#include <utility>
#include <vector>

#include "ops/op.h"

namespace llamita {

// A token of the prompt or of the reply.
struct SeenToken {
  int32_t token = 0;
  int32_t in_reply = 0;  // how often
};

struct SamplingRow {
  float temperature = 1.0f;
  int top_k = 0;  // 0: all
  float top_p = 1.0f;
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;
  float frequency_penalty = 0.0f;
  float presence_penalty = 0.0f;
  std::span<const std::pair<int32_t, float>> logit_bias;  // ids below vocab_limit
  std::span<const SeenToken> seen;                        // each token once; needed for penalties only
  int32_t late_token = -1;            // one more of the reply, which `seen` does not count yet; -1: none
  std::span<const uint32_t> allowed;  // bit t % 32 of word t / 32: token t may be chosen; empty: all may
  uint64_t seed = 0;
  uint32_t choice = 0;
  uint64_t position = 0;  // of the new token in its sequence
  int logprobs = -1;      // alternatives to report; -1: no probabilities at all
};

struct SampledToken {
  // -1: a logit is NaN or +infinity, or all are -infinity. Such a row means a broken model or file; guessing
  // a token would hide it.
  int32_t token = -1;
  // Natural logarithms, of the softmax of the logits as they came, before step 1.
  float logprob = 0;
  std::vector<std::pair<int32_t, float>>
      top;  // most probable first, of equals the lower id; finite ones only
};

struct SamplingArgs {
  Tensor logits;                      // (R, V) f32, dense; not changed. On a GPU: see device_sampling.h too
  int32_t vocab_limit = 0;            // 1 .. V
  std::span<const SamplingRow> rows;  // R
  std::span<SampledToken> out;        // R
};

const Op<SamplingArgs>& sampling_op();
inline void sampling(const SamplingArgs& args, Context& context) { run(sampling_op(), args, context); }

}  // namespace llamita
