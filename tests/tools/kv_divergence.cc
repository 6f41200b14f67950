// What rounding keys and values in memory does to a model's answers: KL of the next token's probabilities to
// those with an f32 cache, and to those with the default, f16, over windows of 512 tokens of English text.
//
//   kv_divergence MODEL [POSITIONS] < text.txt        (default 4096 positions)
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "ops/linear/linear.h"
#include "support/model_steps.h"
#include "text/tokenizer.h"

namespace {

using llamita::DType;

constexpr size_t kWindow = 512;
constexpr DType kCaches[] = {DType::f32, DType::f16, DType::bf16, DType::i8};
constexpr size_t kCacheCount = std::size(kCaches);

// Log probabilities in place of the logits of one position.
void normalize(float* row, size_t vocab) {
  const float largest = *std::max_element(row, row + vocab);
  double sum = 0;
  for (size_t v = 0; v < vocab; ++v) sum += std::exp(double{row[v]} - largest);
  const double log_sum = largest + std::log(sum);
  for (size_t v = 0; v < vocab; ++v) row[v] = static_cast<float>(row[v] - log_sum);
}

double divergence(const float* p, const float* q, size_t vocab) {
  double sum = 0;
  for (size_t v = 0; v < vocab; ++v) sum += std::exp(double{p[v]}) * (double{p[v]} - q[v]);
  return sum;
}

struct Compared {
  std::vector<double> divergences;
  size_t same = 0;  // most probable tokens

  void add(const float* p, const float* q, size_t vocab) {
    divergences.push_back(divergence(p, q, vocab));
    same += std::max_element(p, p + vocab) - p == std::max_element(q, q + vocab) - q ? 1 : 0;
  }
  void print(DType from, DType to) {
    std::sort(divergences.begin(), divergences.end());
    double sum = 0;
    for (const double each : divergences) sum += each;
    const auto count = static_cast<double>(divergences.size());
    std::printf("| %s | %s | %.2e | %.2e | %.2f %% |\n", std::string(name(from)).c_str(),
                std::string(name(to)).c_str(), sum / count, divergences[divergences.size() * 999 / 1000],
                100 * static_cast<double>(same) / count);
  }
};

int run(const std::string& path, size_t positions) {
  llamita::Placement placement;
  placement.layout = llamita::linear_cpu_layout();
  const auto model = llamita::load_model(path, {}, placement);
  const auto tokenizer = llamita::Tokenizer::load(path);
  const std::string text{std::istreambuf_iterator<char>(std::cin), {}};
  const std::vector<int32_t> ids = tokenizer->encode(text, false, false);
  if (ids.size() < positions)
    throw llamita::Error(llamita::cat("the text has ", ids.size(), " tokens, expected at least ", positions));
  const auto vocab = static_cast<size_t>(model->config().vocab);
  Compared to_f32[kCacheCount], to_f16[kCacheCount];
  for (size_t begin = 0; begin + kWindow <= positions; begin += kWindow) {
    const auto first = ids.begin() + static_cast<int64_t>(begin);
    std::vector<float> logits[kCacheCount];
    for (size_t c = 0; c < kCacheCount; ++c) {
      llamita::test::ModelSteps steps(*model, kCaches[c], 0);
      logits[c] = steps.run({{0, {first, first + kWindow}}});
      for (size_t t = 0; t < kWindow; ++t) {
        float* row = logits[c].data() + t * vocab;
        normalize(row, vocab);
        if (c > 0) to_f32[c].add(logits[0].data() + t * vocab, row, vocab);
        if (c > 1) to_f16[c].add(logits[1].data() + t * vocab, row, vocab);
      }
    }
  }
  std::printf(
      "| from | to | mean KL | 99.9 %% below | same most probable token |\n|---|---|---:|---:|---:|\n");
  for (size_t c = 1; c < kCacheCount; ++c) to_f32[c].print(DType::f32, kCaches[c]);
  for (size_t c = 2; c < kCacheCount; ++c) to_f16[c].print(DType::f16, kCaches[c]);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const int positions = argc == 3 ? std::atoi(argv[2]) : 4096;
  if (argc < 2 || argc > 3 || positions < static_cast<int>(kWindow)) {
    std::fprintf(stderr, "usage: kv_divergence MODEL [POSITIONS, at least %zu] < text.txt\n", kWindow);
    return 2;
  }
  try {
    return run(argv[1], static_cast<size_t>(positions));
  } catch (const llamita::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
