// The real model that LLAMITA_TEST_MODEL names (a GGUF file or a folder), its logits, and what transformers
// computed in fp32 with one such file (tests/golden/smollm2, made by scripts/make_real_model_golden.py).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/sha256.h"
#include "engine/compute_device.h"
#include "engine/direct_runner.h"
#include "formats/safetensors.h"
#include "support/distributions.h"
#include "support/exact_linear.h"
#include "support/golden.h"

namespace llamita::test {

// Empty when the environment names none.
inline std::string real_model_path() {
  const char* path = std::getenv("LLAMITA_TEST_MODEL");
  return path == nullptr ? "" : path;
}

// Whether the file is the one that tests/golden/smollm2 was made from.
inline bool is_golden_model(const std::string& path) {
  return std::filesystem::is_regular_file(path) &&
         golden("smollm2/model.sha256").starts_with(sha256_of_file(path));
}

// English prose, without a line's end.
inline std::string real_model_text() { return golden("smollm2/text.txt"); }

// Logits (T, V). `exact`: on the CPU, without activations rounded to eight bits and with an f32 cache.
inline std::vector<float> real_model_logits(const std::string& path, EngineConfig config, bool exact,
                                            const std::vector<int32_t>& ids) {
  config.context = 512;
  if (exact) config.kv_dtype = "f32";
  const auto guard = exact ? std::make_unique<ExactLinear>() : nullptr;
  const auto model = load_model(path, {}, choose_placement(config));
  return DirectRunner(*model, config).logits_of(ids);
}

// The most probable next tokens of each position, in falling order.
struct TopLogits {
  size_t top = 0;              // K
  std::vector<int32_t> ids;    // (T) the text
  std::vector<int32_t> best;   // (T, K)
  std::vector<float> logits;   // (T, K)
  std::vector<float> log_sum;  // (T) of all tokens' exp(logit)
};

inline TopLogits read_top_logits() {
  TopLogits golden;
  const auto copy = [](const auto& tensor, auto& to) {
    to.resize(tensor.data.size() / 4);
    std::memcpy(to.data(), tensor.data.data(), tensor.data.size());
  };
  for (const auto& tensor : safetensors::open_file(golden_path("smollm2/golden.safetensors"))) {
    if (tensor.name == "ids") copy(tensor, golden.ids);
    if (tensor.name == "top_ids") copy(tensor, golden.best);
    if (tensor.name == "top_logits") copy(tensor, golden.logits);
    if (tensor.name == "log_sum") copy(tensor, golden.log_sum);
  }
  golden.top = golden.best.size() / golden.ids.size();
  return golden;
}

struct Distance {
  double mean_kl = 0;        // over the golden's K tokens and all others as one
  double rms_log_prob = 0;   // over the golden's K tokens
  double largest_logit = 0;  // difference, over the golden's K tokens
  int clear_missed = 0;      // positions whose first token differs though the golden's leads by 0.5 or more
  int clear = 0;             // positions where it does
};

// logits: (T, V).
inline Distance distance_of(const TopLogits& golden, const std::vector<float>& logits) {
  Distance distance;
  const size_t tokens = golden.ids.size(), vocab = logits.size() / tokens, top = golden.top;
  for (size_t t = 0; t < tokens; ++t) {
    const float* row = logits.data() + t * vocab;
    const float* want = golden.logits.data() + t * top;
    const int32_t* best = golden.best.data() + t * top;
    const std::vector<double> log_prob = log_softmax(row, vocab);
    double want_rest = 1, rest = 1;
    for (size_t k = 0; k < top; ++k) {
      const auto id = static_cast<size_t>(best[k]);
      const double p = double{want[k]} - golden.log_sum[t], difference = log_prob[id] - p;
      distance.mean_kl -= std::exp(p) * difference;
      distance.rms_log_prob += difference * difference;
      distance.largest_logit = std::max(distance.largest_logit, std::abs(double{row[id]} - want[k]));
      want_rest -= std::exp(p);
      rest -= std::exp(log_prob[id]);
    }
    // Below the rounding of log_sum there is no mass to speak of.
    if (want_rest > 1e-6) distance.mean_kl += want_rest * std::log(want_rest / std::max(rest, 1e-12));
    if (want[0] - want[1] < 0.5f) continue;
    ++distance.clear;
    if (std::max_element(row, row + vocab) - row != best[0]) ++distance.clear_missed;
  }
  distance.mean_kl /= static_cast<double>(tokens);
  distance.rms_log_prob = std::sqrt(distance.rms_log_prob / static_cast<double>(tokens * top));
  return distance;
}

}  // namespace llamita::test
