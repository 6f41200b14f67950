// The steps of sampling that every CPU variant shares: they are one pass each and leave nothing to choose.
#pragma once

#include <span>

#include "ops/sampling/integer_weight.h"
#include "ops/sampling/sampling.h"

namespace llamita::sampling_steps {

// The order of tokens everywhere: the higher logit first, of equals the lower id.
inline bool better(const float* logits, int32_t a, int32_t b) {
  return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
}

// Whether steps 1 to 3 change anything.
bool adjusts(const SamplingRow& row);
// Steps 1 to 3, in place.
void adjust(const SamplingRow& row, std::span<float> logits);

// The best token, or -1 when no token may be chosen (see SampledToken::token).
int32_t best_token(std::span<const float> logits);

// Fills logprob and top of `out`, whose token is chosen, from the logits as they came.
void report_probabilities(std::span<const float> logits, int alternatives, SampledToken& out);

// The `count` best tokens, best first. O(V + count log count log V).
std::vector<int32_t> best_tokens(std::span<const float> logits, int count);

}  // namespace llamita::sampling_steps
