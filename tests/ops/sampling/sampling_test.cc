#include "ops/sampling/sampling.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <set>

#include "ops/sampling/integer_weight.h"
#include "ops/sampling/philox.h"

namespace llamita {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The known answers that come with the generator's authors' implementation.
TEST(Philox, KnownAnswers) {
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, SeedChoiceAndPositionEachMatter) {
  std::set<uint64_t> seen;
  for (const uint64_t seed : {0ull, 1ull, 1ull << 32}) {
    for (const uint32_t choice : {0u, 1u}) {
      for (const uint64_t position : {0ull, 1ull, 1ull << 32})
        seen.insert(random_bits(seed, choice, position));
    }
  }
  EXPECT_EQ(seen.size(), 18u);
}

TEST(IntegerWeight, FractionRisesStrictlyAndIsCloseToExp2) {
  uint32_t last = 0;
  double worst = 0;
  for (uint32_t f = 0; f < 1u << 24; ++f) {
    const uint32_t value = exp2_fraction(f);
    ASSERT_GT(value, last) << f;
    last = value;
    if (f % 101 != 0) continue;
    const double exact = std::exp2(f / 16777216.0) * 2147483648.0;
    ASSERT_LE(value, exact) << f;
    worst = std::max(worst, (exact - value) / exact);
  }
  EXPECT_EQ(exp2_fraction(0), 1u << 31);
  EXPECT_LT(worst, 1.0 / (1 << 26));
}

TEST(IntegerWeight, FallsFromFullToNothing) {
  EXPECT_EQ(integer_weight(0.0f, kLog2E), kFullWeight);
  EXPECT_EQ(integer_weight(0.0f, kInfinity), kFullWeight) << "the best token at the smallest temperatures";
  EXPECT_EQ(integer_weight(1.0f, kInfinity), 0u);
  EXPECT_EQ(integer_weight(kInfinity, kLog2E), 0u);
  for (int power = 0; power < kWeightBits; ++power) {
    EXPECT_EQ(integer_weight(static_cast<float>(power), 1.0f), kFullWeight >> power) << power;
  }
  EXPECT_EQ(integer_weight(40.0f, 1.0f), 0u);
  uint64_t last = kFullWeight;
  for (float below = 0; below < 41; below += 0.000173f) {
    const uint64_t weight = integer_weight(below, 1.0f);
    ASSERT_LE(weight, last) << below;
    ASSERT_NEAR(static_cast<double>(weight), std::exp2(-double{below}) * static_cast<double>(kFullWeight),
                1 + static_cast<double>(weight) * 2e-7);
    last = weight;
  }
}

TEST(IntegerWeight, MultiplyHighAndMassBounds) {
  EXPECT_EQ(multiply_high(~uint64_t{0}, ~uint64_t{0}), ~uint64_t{0} - 1);
  EXPECT_EQ(multiply_high(uint64_t{1} << 63, 6), 3u);
  std::mt19937_64 random(3);
  for (int i = 0; i < 1000; ++i) {
    const uint64_t total = random() >> (random() % 63 + 1) | 1;
    ASSERT_LT(draw_below(total, random()), total);
    ASSERT_LT(draw_below(total, ~uint64_t{0}), total);
    const uint64_t mass = mass_to_keep(0.37f, total);
    ASSERT_GE(mass, 1u);
    ASSERT_LE(mass, total);
  }
  EXPECT_EQ(mass_to_keep(0.5f, 10), 5u);
  EXPECT_EQ(mass_to_keep(0.5f, 11), 6u);
  EXPECT_EQ(mass_to_keep(1e-30f, 11), 1u);
}

// Runs one variant of the table.
class Sampler {
 public:
  explicit Sampler(std::string_view variant, int threads = 1)
      : variant_(variant), pool_(threads), threads_(threads) {}

  std::vector<SampledToken> operator()(const std::vector<float>& logits, int64_t vocab, int32_t limit,
                                       const std::vector<SamplingRow>& rows) {
    const auto count = static_cast<int64_t>(rows.size());
    std::vector<SampledToken> out(rows.size());
    const SamplingArgs args{
        .logits = Tensor::of(logits.data(), {count, vocab}), .vocab_limit = limit, .rows = rows, .out = out};
    sampling_op().check(args);
    const Caps caps{DeviceKind::cpu, cpu::Isa::generic, threads_};
    for (const Variant<SamplingArgs>& variant : sampling_op().variants) {
      if (variant.name != variant_) continue;
      EXPECT_TRUE(variant.supports(args, caps));
      const int64_t scratch = variant.scratch_bytes == nullptr ? 64 : variant.scratch_bytes(args, caps) + 64;
      Arena arena(static_cast<size_t>(scratch));
      Context context(pool_, arena, caps);
      variant.run(args, context);
      return out;
    }
    ADD_FAILURE() << "no variant " << variant_;
    return out;
  }
  int32_t one(const std::vector<float>& logits, const SamplingRow& row) {
    return (*this)(logits, static_cast<int64_t>(logits.size()), static_cast<int32_t>(logits.size()), {row})[0]
        .token;
  }

 private:
  std::string_view variant_;
  ThreadPool pool_;
  int threads_;
};

std::vector<float> random_logits(std::mt19937& random, int64_t count, float spread, int distinct) {
  std::vector<float> logits;
  std::uniform_int_distribution<int> pick(0, distinct);
  for (int64_t i = 0; i < count; ++i) {
    logits.push_back(spread * static_cast<float>(pick(random)) / static_cast<float>(distinct));
  }
  return logits;
}

// Every variant chooses what the reference chooses, on every mix of steps, with ties, masks and padding.
TEST(Sampling, VariantsAgreeWithTheReference) {
  std::mt19937 random(7);
  Sampler reference("reference");
  const float temperatures[] = {0.0f, 1e-30f, 0.1f, 0.7f, 1.0f, 1.5f, 100.0f};
  const float top_ps[] = {1.0f, 1e-6f, 0.1f, 0.5f, 0.9f, 0.999f};
  const float min_ps[] = {0.0f, 0.01f, 0.3f, 1.0f};
  for (const Variant<SamplingArgs>& variant : sampling_op().variants) {
    if (!variant.supports({}, {DeviceKind::cpu, cpu::Isa::generic, 1})) continue;
    for (const int threads : {1, 2}) {
      Sampler tested(variant.name, threads);
      for (int round = 0; round < 150; ++round) {
        const int64_t vocab = round % 3 == 0 ? 5 + round : 1 + round * 13 % 700;
        const auto limit = static_cast<int32_t>(1 + random() % static_cast<uint32_t>(vocab));
        const int64_t count = 1 + round % 5;
        auto logits = random_logits(random, count * vocab, 1.0f + static_cast<float>(round % 40),
                                    round % 2 == 0 ? 7 : 1 << 20);
        for (float& logit : logits) logit = random() % 9 == 0 ? -kInfinity : logit - 3;
        for (int64_t r = 0; r < count; ++r) {
          if (limit < vocab) logits[static_cast<size_t>(r * vocab + limit)] = std::nanf("");
          logits[static_cast<size_t>(r * vocab)] = 0.5f;
        }
        std::vector<std::pair<int32_t, float>> bias = {{0, -2.0f}, {limit - 1, 1.5f}};
        std::vector<SeenToken> seen = {{0, 0}, {limit / 2, 3}};
        if (limit / 2 == 0) seen.pop_back();
        std::vector<uint32_t> allowed(static_cast<size_t>(limit + 31) / 32);
        for (uint32_t& word : allowed) word = static_cast<uint32_t>(random());
        allowed[0] |= 1;  // the one that is finite
        std::vector<SamplingRow> rows;
        for (int64_t r = 0; r < count; ++r) {
          SamplingRow row;
          if (random() % 3 == 0) row.allowed = allowed;
          row.temperature = temperatures[random() % 7];
          row.top_k = static_cast<int>(random() % 3 == 0 ? 1 + random() % 40 : 0);
          row.top_p = top_ps[random() % 6];
          row.min_p = min_ps[random() % 4];
          if (random() % 2 == 0) row.logit_bias = bias;
          if (random() % 2 == 0) {
            row.seen = seen;
            row.repetition_penalty = 1.2f;
            row.frequency_penalty = 0.3f;
            row.presence_penalty = -0.7f;
          }
          row.seed = random();
          row.position = static_cast<uint64_t>(round);
          row.logprobs = static_cast<int>(random() % 4) - 1;
          rows.push_back(row);
        }
        const auto expected = reference(logits, vocab, limit, rows);
        const auto got = tested(logits, vocab, limit, rows);
        for (size_t r = 0; r < rows.size(); ++r) {
          ASSERT_GE(expected[r].token, 0);
          ASSERT_LT(expected[r].token, limit);
          const auto token = static_cast<uint32_t>(expected[r].token);
          ASSERT_TRUE(rows[r].allowed.empty() || (rows[r].allowed[token / 32] >> token % 32 & 1) != 0);
          ASSERT_EQ(got[r].token, expected[r].token)
              << variant.name << " V " << vocab << " limit " << limit << " row " << r << " temperature "
              << rows[r].temperature << " top_k " << rows[r].top_k << " top_p " << rows[r].top_p << " min_p "
              << rows[r].min_p;
          ASSERT_EQ(got[r].logprob, expected[r].logprob);
          ASSERT_EQ(got[r].top, expected[r].top);
        }
      }
    }
  }
}

// What is forbidden leaves no trace: the others are drawn as if they were the whole vocabulary.
TEST(Sampling, ForbiddenTokensAreAsIfTheyWereNotThere) {
  for (const auto* name : {"reference", "cpu_select"}) {
    Sampler sampler(name);
    const std::vector<float> logits = {9, 1, 2, 9, 0.5f, 2};
    const std::vector<float> few = {-kInfinity, 1, 2, -kInfinity, 0.5f, -kInfinity};
    const std::vector<uint32_t> allowed = {0b010110};
    for (int i = 0; i < 300; ++i) {
      SamplingRow row;
      row.seed = static_cast<uint64_t>(i);
      row.top_k = i % 3 == 0 ? 2 : 0;
      row.top_p = i % 2 == 0 ? 0.8f : 1.0f;
      row.temperature = i % 5 == 0 ? 0.0f : 0.9f;
      const int32_t expected = sampler.one(few, row);
      row.allowed = allowed;
      ASSERT_EQ(sampler.one(logits, row), expected);
    }
    SamplingRow row;
    row.allowed = allowed;
    EXPECT_EQ(sampler.one({std::nanf(""), 1, 2, 3, 4, 5}, row), -1) << "a mask hides no broken model";
    row.logprobs = 0;
    const auto out = sampler(logits, 6, 6, {row})[0];
    EXPECT_LT(out.logprob, -6.5f) << "probabilities are reported as the model has them";
  }
}

TEST(Sampling, GreedyTakesTheLowestIdOfEquals) {
  for (const auto* name : {"reference", "cpu_select"}) {
    SamplingRow row;
    row.temperature = 0;
    EXPECT_EQ(Sampler(name).one({1, 5, 5, -3, 5}, row), 1);
    EXPECT_EQ(Sampler(name).one({-kInfinity, -4, -kInfinity}, row), 1);
    row.temperature = 1;
    row.top_k = 1;
    EXPECT_EQ(Sampler(name).one({1, 5, 5, -3, 5}, row), 1) << "top-k 1 is greedy";
  }
}

TEST(Sampling, BrokenLogitsAreAnErrorOfTheirRowAlone) {
  for (const auto* name : {"reference", "cpu_select"}) {
    const float nan = std::nanf("");
    const std::vector<float> logits = {1,          nan,        2,          1, kInfinity, 2,
                                       -kInfinity, -kInfinity, -kInfinity, 1, 7,         2};
    for (const float temperature : {0.0f, 1.0f}) {
      SamplingRow row;
      row.temperature = temperature;
      row.top_k = temperature == 0 ? 0 : 1;
      row.logprobs = 2;
      const auto out = Sampler(name)(logits, 3, 3, {row, row, row, row});
      EXPECT_EQ(out[0].token, -1);
      EXPECT_EQ(out[1].token, -1);
      EXPECT_EQ(out[2].token, -1);
      EXPECT_EQ(out[3].token, 1);
    }
  }
}

TEST(Sampling, PenaltiesAndBiasAsDocumented) {
  SamplingRow row;
  row.temperature = 0;
  const std::vector<SeenToken> seen = {{1, 2}, {2, 0}};
  row.seen = seen;
  row.repetition_penalty = 2;  // 4 -> 2, 3.5 -> 1.75: token 0 wins with 2.5
  EXPECT_EQ(Sampler("cpu_select").one({2.5f, 4, 3.5f}, row), 0);
  EXPECT_EQ(Sampler("cpu_select").one({-2.5f, -1, -1.3f}, row), 1) << "negative logits are multiplied";
  row.repetition_penalty = 1;
  row.frequency_penalty = 0.5f;  // only the reply counts: 4 -> 3
  EXPECT_EQ(Sampler("cpu_select").one({2.5f, 4, 3.5f}, row), 2);
  row.frequency_penalty = 0;
  row.presence_penalty = 1.75f;
  EXPECT_EQ(Sampler("cpu_select").one({2.5f, 4, 2}, row), 0);
  const std::vector<std::pair<int32_t, float>> bias = {{2, 100.0f}};
  row.logit_bias = bias;
  EXPECT_EQ(Sampler("cpu_select").one({2.5f, 4, 2}, row), 2);
}

// Draws as often as it takes to tell distributions apart: chi-square against the exact probabilities, with a
// bound that a right sampler exceeds once in about 10^5 runs (the seeds are fixed).
void expect_distribution(SamplingRow row, const std::vector<float>& logits,
                         const std::vector<double>& expected) {
  constexpr int kDraws = 40000;
  Sampler sampler("cpu_select");
  std::vector<double> counts(logits.size(), 0);
  std::vector<SamplingRow> rows;
  std::vector<float> repeated;
  for (int i = 0; i < kDraws; ++i) {
    row.position = static_cast<uint64_t>(i);
    rows.push_back(row);
    repeated.insert(repeated.end(), logits.begin(), logits.end());
  }
  const auto vocab = static_cast<int64_t>(logits.size());
  for (const SampledToken& token : sampler(repeated, vocab, static_cast<int32_t>(vocab), rows)) {
    counts[static_cast<size_t>(token.token)] += 1;
  }
  double chi_square = 0;
  int cells = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    const double want = expected[i] * kDraws;
    if (want == 0) {
      EXPECT_EQ(counts[i], 0) << "token " << i << " was filtered";
      continue;
    }
    chi_square += (counts[i] - want) * (counts[i] - want) / want;
    ++cells;
  }
  // Wilson and Hilferty's approximation of the quantile at 4.3 standard deviations.
  const double freedom = cells - 1, spread = 2 / (9 * freedom);
  EXPECT_LT(chi_square, freedom * std::pow(1 - spread + 4.3 * std::sqrt(spread), 3));
}

std::vector<double> softmax(const std::vector<float>& logits, double temperature,
                            const std::set<size_t>& kept) {
  std::vector<double> out(logits.size(), 0);
  double sum = 0;
  for (const size_t i : kept) sum += out[i] = std::exp(logits[i] / temperature);
  for (double& p : out) p /= sum;
  return out;
}

TEST(Sampling, DrawsFollowTheDistribution) {
  const std::vector<float> logits = {0.1f, 2.0f, -1.0f, 1.5f, 0.7f, -0.3f, 2.2f, 1.1f};
  SamplingRow row;
  row.seed = 42;
  expect_distribution(row, logits, softmax(logits, 1, {0, 1, 2, 3, 4, 5, 6, 7}));
  row.temperature = 0.6f;
  expect_distribution(row, logits, softmax(logits, 0.6, {0, 1, 2, 3, 4, 5, 6, 7}));
  row.temperature = 1.7f;
  row.choice = 3;
  expect_distribution(row, logits, softmax(logits, 1.7, {0, 1, 2, 3, 4, 5, 6, 7}));
}

TEST(Sampling, FiltersKeepExactlyTheirTokens) {
  // Probabilities 0.4, 0.3, 0.2, 0.1 in shuffled places.
  const std::vector<float> logits = {std::log(0.2f), std::log(0.4f), std::log(0.1f), std::log(0.3f)};
  SamplingRow row;
  row.top_k = 3;
  expect_distribution(row, logits, softmax(logits, 1, {1, 3, 0}));
  row.top_k = 0;
  row.top_p = 0.65f;
  expect_distribution(row, logits, softmax(logits, 1, {1, 3}));
  row.top_p = 0.75f;
  expect_distribution(row, logits, softmax(logits, 1, {1, 3, 0}));
  row.top_p = 1;
  row.min_p = 0.6f;
  expect_distribution(row, logits, softmax(logits, 1, {1, 3}));
  row.top_k = 2;  // then 4/7 and 3/7, of which top-p 0.5 keeps the first
  row.min_p = 0;
  row.top_p = 0.5f;
  row.position = 1;
  EXPECT_EQ(Sampler("cpu_select").one(logits, row), 1);
}

// The same logits in another order are the same distribution exactly: sums do not depend on order.
TEST(Sampling, TotalsDoNotDependOnTheOrderOfTokens) {
  std::mt19937 random(5);
  std::vector<float> logits = random_logits(random, 5000, 20, 1 << 22);
  const float best = *std::max_element(logits.begin(), logits.end());
  const auto total = [&] {
    uint64_t sum = 0;
    for (const float logit : logits) sum += integer_weight(best - logit, kLog2E);
    return sum;
  };
  const uint64_t expected = total();
  SamplingRow row;
  row.temperature = 0.0f;
  row.logprobs = 0;
  const float logprob = Sampler("cpu_select")(logits, 5000, 5000, {row})[0].logprob;
  for (int round = 0; round < 10; ++round) {
    std::shuffle(logits.begin(), logits.end(), random);
    ASSERT_EQ(total(), expected);
    ASSERT_EQ(Sampler("cpu_select")(logits, 5000, 5000, {row})[0].logprob, logprob);
  }
}

}  // namespace
}  // namespace llamita
