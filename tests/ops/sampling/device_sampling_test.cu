// Sampling on a GPU chooses the token that the CPU's reference chooses, for every combination of settings.
#include "ops/cuda_test_support.h"
#include "ops/sampling/sampling.h"

namespace llamita {
namespace {

using test::CudaMachine;
using test::DeviceMatrix;
using test::Machine;
using CudaSampling = test::GpuTest;

struct Row {
  SamplingRow row;
  std::vector<std::pair<int32_t, float>> bias;
  std::vector<SeenToken> seen;
};

void check(const std::vector<float>& logits, int64_t V, int32_t limit, std::vector<Row>& rows,
           const std::string& what) {
  const auto R = static_cast<int64_t>(rows.size());
  CudaMachine gpu(DType::bf16);
  Machine cpu(1, cpu::Isa::generic);
  DeviceMatrix there(R, V, DType::f32, 0);
  there.fill(logits);
  std::vector<SamplingRow> parameters;
  for (Row& row : rows) {
    row.row.logit_bias = row.bias;
    row.row.seen = row.seen;
    parameters.push_back(row.row);
  }
  std::vector<SampledToken> got(rows.size()), expected(rows.size());
  test::run_reference(sampling_op(), {there.host_tensor(), limit, parameters, expected}, cpu.context());
  sampling({there.tensor(), limit, parameters, got}, gpu.context());
  for (size_t r = 0; r < rows.size(); ++r) {
    const SamplingRow& p = rows[r].row;
    EXPECT_EQ(got[r].token, expected[r].token)
        << what << ", row " << r << ": temperature " << p.temperature << " top_k " << p.top_k << " top_p "
        << p.top_p << " min_p " << p.min_p << " position " << p.position;
    EXPECT_EQ(got[r].logprob, expected[r].logprob) << what << ", row " << r;
    EXPECT_EQ(got[r].top, expected[r].top) << what << ", row " << r;
  }
  const std::vector<float> after = there.read();
  EXPECT_EQ(std::memcmp(after.data(), there.host().data(), after.size() * sizeof(float)), 0)
      << what << ": sampling changed the logits";
}

std::vector<Row> settings(int32_t limit) {
  std::vector<Row> rows;
  uint64_t position = 0;
  for (const float temperature : {0.0f, 0.3f, 1.0f, 1.7f})
    for (const int top_k : {0, 1, 7, 50, 1500})
      for (const float top_p : {1.0f, 0.9f, 0.2f, 1e-6f})
        for (const float min_p : {0.0f, 0.05f}) {
          Row row;
          row.row.temperature = temperature;
          row.row.top_k = top_k;
          row.row.top_p = top_p;
          row.row.min_p = min_p;
          row.row.seed = 1234;
          row.row.choice = static_cast<uint32_t>(position % 3);
          row.row.position = position++;
          if (position % 4 == 0) {
            row.row.repetition_penalty = 1.3f;
            row.row.frequency_penalty = 0.37f;
            row.row.presence_penalty = 0.11f;
            for (int32_t t = 0; t < std::min(limit, 40); t += 3) row.seen.push_back({t, t % 4});
            // One that was seen before or one that was not.
            if (position % 8 == 0) row.row.late_token = std::min(limit - 1, position % 16 == 0 ? 3 : 4);
          }
          if (position % 5 == 0) row.bias = {{0, 3.5f}, {limit - 1, -2.25f}};
          if (position % 6 == 0) row.row.logprobs = 3;
          rows.push_back(row);
        }
  return rows;
}

void check_every_setting(int64_t V, int32_t limit, float scale) {
  std::vector<Row> rows = settings(limit);
  std::mt19937 random(static_cast<uint32_t>(V));
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> logits(rows.size() * static_cast<size_t>(V));
  for (float& logit : logits) logit = normal(random);
  check(logits, V, limit, rows, cat("V ", V));
}

TEST_F(CudaSampling, SmallVocabularies) {
  check_every_setting(1, 1, 1.0f);
  check_every_setting(37, 30, 2.0f);
}

TEST_F(CudaSampling, ChoosesAsTheCpuForEverySetting) {
  check_every_setting(1024, 1024, 3.0f);
  check_every_setting(5003, 5000, 4.0f);
}

TEST_F(CudaSampling, EqualLogitsGoByTheirIds) {
  std::vector<Row> rows = settings(2000);
  std::mt19937 random(5);
  std::vector<float> logits(rows.size() * 2000);
  // Few distinct values, both zeros, and tokens that are forbidden.
  constexpr float kValues[] = {-0.0f, 0.0f, 1.5f, 1.5f, -INFINITY, 2.0f};
  for (float& logit : logits) logit = kValues[random() % 6];
  check(logits, 2000, 2000, rows, "few values");
}

TEST_F(CudaSampling, ABrokenRowHasNoToken) {
  std::vector<Row> rows(4);
  rows[0].row.temperature = 0;
  std::vector<float> logits(4 * 100, 1.0f);
  logits[50] = test::kNan;
  logits[150] = INFINITY;
  std::fill(logits.begin() + 200, logits.begin() + 300, -INFINITY);
  logits[399] = test::kNan;  // beyond the limit
  check(logits, 100, 99, rows, "broken");
}

TEST_F(CudaSampling, AVocabularyOf128kTokens) {
  const int64_t V = 128256;
  std::vector<Row> rows;
  for (int i = 0; i < 6; ++i) {
    Row row;
    row.row.temperature = i == 0 ? 0.0f : 0.8f;
    row.row.top_k = i == 2 || i == 4 ? 40 : 0;
    row.row.top_p = i >= 3 ? 0.95f : 1.0f;
    row.row.min_p = i == 5 ? 0.01f : 0.0f;
    row.row.seed = 77;
    row.row.position = static_cast<uint64_t>(i);
    rows.push_back(row);
  }
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0, 2.5f);
  std::vector<float> logits(rows.size() * static_cast<size_t>(V));
  for (float& logit : logits) logit = normal(random);
  check(logits, V, static_cast<int32_t>(V), rows, "128k");
}

// What top-p and top-k leave comes from a list of few tokens, or, where that is too long or its border is not
// certain, from the whole vocabulary; many rows have a block each, few a cluster.
TEST_F(CudaSampling, PeakedAndFlatRowsOfManyAndFewRows) {
  const int64_t V = 40000;
  for (const int count : {1, 3, 9, 40, 140}) {
    std::vector<Row> rows;
    std::mt19937 random(static_cast<uint32_t>(count));
    std::vector<float> logits(static_cast<size_t>(count) * static_cast<size_t>(V));
    for (int i = 0; i < count; ++i) {
      constexpr float kTopP[] = {0.95f, 0.5f, 0.999f, 1.0f};
      constexpr int kTopK[] = {0, 0, 1, 40, 300, 700};
      Row row;
      row.row.temperature = i % 5 == 4 ? 1.6f : 0.7f;
      row.row.top_p = kTopP[i % 4];
      row.row.top_k = kTopK[i % 6];
      row.row.min_p = i % 7 == 6 ? 0.02f : 0.0f;
      row.row.seed = 5;
      row.row.position = static_cast<uint64_t>(i);
      rows.push_back(row);
      // From one token that has it all to thousands.
      std::normal_distribution<float> normal(0, 0.5f + static_cast<float>(i % 4));
      const auto begin = logits.begin() + i * V;
      std::generate(begin, begin + V, [&] { return normal(random); });
      for (int rank = 1; i % 3 > 0 && rank <= 100 * (i % 3); ++rank)
        begin[random() % static_cast<size_t>(V)] = 18 - 1.3f * std::log(static_cast<float>(rank));
    }
    check(logits, V, static_cast<int32_t>(V), rows, cat(count, " rows"));
  }
}

// Rows with more chunks that have tokens of the list than the list has room for (512): all tokens alike, or
// about so many alike, each in a chunk of its own, and the others far below. Blocks with a row each, and
// clusters, of which one block or all have too many.
TEST_F(CudaSampling, MoreChunksOfTheListThanThereIsRoomFor) {
  for (const auto& [count, V] : {std::pair<int, int64_t>{140, 40000}, {9, 128256}}) {
    constexpr int kAlike[] = {0, 511, 512, 513, 600};  // 0: all
    std::vector<Row> rows;
    std::mt19937 random(static_cast<uint32_t>(count));
    std::normal_distribution<float> normal(-40, 1);
    std::vector<float> logits(static_cast<size_t>(count) * static_cast<size_t>(V), 1.25f);
    for (int i = 0; i < count; ++i) {
      constexpr float kTopP[] = {0.95f, 0.5f, 1.0f};
      constexpr int kTopK[] = {0, 0, 40, 0, 512, 300, 0};
      Row row;
      row.row.temperature = i % 2 == 0 ? 0.7f : 1.6f;
      row.row.top_p = kTopP[i % 3];
      row.row.top_k = kTopK[i % 7];
      row.row.min_p = i % 4 == 3 ? 0.02f : 0.0f;
      row.row.seed = 11;
      row.row.position = static_cast<uint64_t>(i);
      rows.push_back(row);
      const int alike = kAlike[i % 5];
      if (alike == 0) continue;
      const auto begin = logits.begin() + i * V;
      std::generate(begin, begin + V, [&] { return normal(random); });
      // A lane of the kernel has four tokens in a row, 16 of 512.
      for (int k = 0; k < alike; ++k) begin[k / 32 * 512 + k % 32 * 4] = 1.25f;
    }
    check(logits, V, static_cast<int32_t>(V), rows, cat(count, " rows"));
  }
}

}  // namespace
}  // namespace llamita
