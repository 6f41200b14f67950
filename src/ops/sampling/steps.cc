#include "ops/sampling/steps.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace llamita::sampling_steps {

bool adjusts(const SamplingRow& row) {
  return !row.logit_bias.empty() || !row.allowed.empty() || row.repetition_penalty != 1.0f ||
         row.frequency_penalty != 0.0f || row.presence_penalty != 0.0f;
}

namespace {

void forbid(std::span<const uint32_t> allowed, std::span<float> logits) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (size_t token = 0; token < logits.size(); ++token) {
    const bool may = (allowed[token / 32] >> (token % 32) & 1) != 0;
    // NaN and +infinity stay, to be found: they mean a broken model.
    if (!may && logits[token] < kInfinity) logits[token] = -kInfinity;
  }
}

void penalise(const SamplingRow& row, int in_reply, float& logit) {
  logit = logit > 0 ? logit / row.repetition_penalty : logit * row.repetition_penalty;
  if (in_reply == 0) return;
  // Two roundings, in this order, on every device.
  const float frequency = row.frequency_penalty * static_cast<float>(in_reply);
  logit -= frequency;
  logit -= row.presence_penalty;
}

}  // namespace

void adjust(const SamplingRow& row, std::span<float> logits) {
  for (const auto& [token, bias] : row.logit_bias) logits[static_cast<size_t>(token)] += bias;
  bool late_is_first = row.late_token >= 0;
  for (const SeenToken& seen : row.seen) {
    const bool late = seen.token == row.late_token;
    late_is_first &= !late;
    penalise(row, seen.in_reply + (late ? 1 : 0), logits[static_cast<size_t>(seen.token)]);
  }
  if (late_is_first) penalise(row, 1, logits[static_cast<size_t>(row.late_token)]);
  if (!row.allowed.empty()) forbid(row.allowed, logits);
}

int32_t best_token(std::span<const float> logits) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  float best = -kInfinity;
  int32_t token = -1;
  bool finite = true;
  for (size_t i = 0; i < logits.size(); ++i) {
    finite &= logits[i] < kInfinity;  // false for NaN too
    if (logits[i] > best) {
      best = logits[i];
      token = static_cast<int32_t>(i);
    }
  }
  return finite ? token : -1;
}

void report_probabilities(std::span<const float> logits, int alternatives, SampledToken& out) {
  const float best = logits[static_cast<size_t>(best_token(logits))];
  uint64_t total = 0;
  for (const float logit : logits) total += integer_weight(best - logit, kLog2E);
  const double log_total = std::log(static_cast<double>(total) / static_cast<double>(kFullWeight));
  const auto logprob = [&](int32_t token) {
    const double below = static_cast<double>(logits[static_cast<size_t>(token)]) - static_cast<double>(best);
    return static_cast<float>(below - log_total);
  };
  out.logprob = logprob(out.token);
  for (const int32_t token : best_tokens(logits, alternatives)) {
    if (std::isfinite(logits[static_cast<size_t>(token)])) out.top.emplace_back(token, logprob(token));
  }
}

std::vector<int32_t> best_tokens(std::span<const float> logits, int count) {
  const auto order = [&](int32_t a, int32_t b) { return better(logits.data(), a, b); };
  const auto vocab = static_cast<int32_t>(logits.size());
  std::vector<int32_t> kept;  // a heap, the worst on top
  if (count <= 0) return kept;
  count = std::min(count, vocab);
  kept.reserve(static_cast<size_t>(count));
  for (int32_t token = 0; token < count; ++token) kept.push_back(token);
  std::make_heap(kept.begin(), kept.end(), order);
  for (int32_t token = count; token < vocab; ++token) {
    if (!order(token, kept.front())) continue;
    std::pop_heap(kept.begin(), kept.end(), order);
    kept.back() = token;
    std::push_heap(kept.begin(), kept.end(), order);
  }
  std::sort_heap(kept.begin(), kept.end(), order);
  return kept;
}

}  // namespace llamita::sampling_steps
