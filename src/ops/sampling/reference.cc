// The specification of sampling: sort the whole vocabulary and do each step as it is written in sampling.h.
#include <algorithm>
#include <numeric>
#include <vector>

#include "ops/sampling/philox.h"
#include "ops/sampling/steps.h"
#include "ops/sampling/variants.h"

namespace llamita {

namespace {

struct Candidate {
  int32_t token;
  uint64_t weight;
};

uint64_t total_weight(const std::vector<Candidate>& candidates) {
  uint64_t total = 0;
  for (const Candidate& candidate : candidates) total += candidate.weight;
  return total;
}

void keep_top_p(std::vector<Candidate>& candidates, float top_p) {
  const uint64_t wanted = mass_to_keep(top_p, total_weight(candidates));
  uint64_t mass = 0;
  size_t kept = 0;
  while (mass < wanted) mass += candidates[kept++].weight;
  candidates.resize(kept);
}

int32_t choose(const SamplingRow& row, std::vector<float> logits) {
  sampling_steps::adjust(row, logits);
  const int32_t best = sampling_steps::best_token(logits);
  if (best < 0 || row.temperature == 0.0f) return best;

  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](int32_t a, int32_t b) { return sampling_steps::better(logits.data(), a, b); });
  if (row.top_k > 0) order.resize(std::min(order.size(), static_cast<size_t>(row.top_k)));
  std::vector<Candidate> candidates;  // best first
  for (const int32_t token : order) {
    const float below = logits[static_cast<size_t>(best)] - logits[static_cast<size_t>(token)];
    candidates.push_back({token, integer_weight(below, kLog2E / row.temperature)});
  }
  if (row.top_p < 1.0f) keep_top_p(candidates, row.top_p);
  std::erase_if(candidates, [&](const Candidate& c) { return c.weight < weight_to_keep(row.min_p); });

  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate& a, const Candidate& b) { return a.token < b.token; });
  uint64_t rest = draw_below(total_weight(candidates), random_bits(row.seed, row.choice, row.position));
  size_t chosen = 0;
  while (rest >= candidates[chosen].weight) rest -= candidates[chosen++].weight;
  return candidates[chosen].token;
}

}  // namespace

void sampling_reference(const SamplingArgs& args, Context&) {
  for (size_t r = 0; r < args.rows.size(); ++r) {
    const SamplingRow& row = args.rows[r];
    SampledToken& out = args.out[r];
    const float* logits = args.logits.ptr<float>() + static_cast<int64_t>(r) * args.logits.dim(1);
    const std::span<const float> allowed(logits, static_cast<size_t>(args.vocab_limit));
    out = {};
    out.token = choose(row, {allowed.begin(), allowed.end()});
    if (out.token >= 0 && row.logprobs >= 0) {
      sampling_steps::report_probabilities(allowed, row.logprobs, out);
    }
  }
}

}  // namespace llamita
