// How far one model's next-token distributions are from another's.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace llamita::test {

// Log-probabilities of one row of logits.
inline std::vector<double> log_softmax(const float* row, size_t vocab) {
  const double highest = *std::max_element(row, row + vocab);
  double sum = 0;
  for (size_t i = 0; i < vocab; ++i) sum += std::exp(row[i] - highest);
  std::vector<double> out(vocab);
  for (size_t i = 0; i < vocab; ++i) out[i] = row[i] - highest - std::log(sum);
  return out;
}

// Mean over rows of KL(want || got); both are (T, V) logits.
inline double mean_kl(const std::vector<float>& want, const std::vector<float>& got, size_t vocab) {
  double sum = 0;
  const size_t rows = want.size() / vocab;
  for (size_t t = 0; t < rows; ++t) {
    const auto p = log_softmax(want.data() + t * vocab, vocab),
               q = log_softmax(got.data() + t * vocab, vocab);
    for (size_t i = 0; i < vocab; ++i) sum += std::exp(p[i]) * (p[i] - q[i]);
  }
  return sum / static_cast<double>(rows);
}

// Rows whose best token differs although `want` leads with at least `margin`.
inline int clear_choices_missed(const std::vector<float>& want, const std::vector<float>& got, size_t vocab,
                                float margin) {
  int missed = 0;
  for (size_t t = 0; t < want.size() / vocab; ++t) {
    std::vector<float> row(want.begin() + static_cast<std::ptrdiff_t>(t * vocab),
                           want.begin() + static_cast<std::ptrdiff_t>((t + 1) * vocab));
    const auto best = std::max_element(row.begin(), row.end()) - row.begin();
    std::nth_element(row.begin(), row.begin() + 1, row.end(), std::greater<>());
    if (row[0] - row[1] < margin) continue;
    const float* mine = got.data() + t * vocab;
    if (std::max_element(mine, mine + vocab) - mine != best) ++missed;
  }
  return missed;
}

}  // namespace llamita::test
