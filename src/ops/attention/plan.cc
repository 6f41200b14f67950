#include "ops/attention/plan.h"

#include <algorithm>

#include "base/check.h"

namespace llamita {

AttentionPlan plan_attention(std::span<const int32_t> q_start, std::span<const int32_t> kv_len) {
  LLAMITA_CHECK(q_start.size() == kv_len.size() + 1, "q_start has ", q_start.size(), " entries for ",
                kv_len.size(), " sequences");
  AttentionPlan plan;
  for (size_t b = 0; b < kv_len.size(); ++b) {
    const int32_t rows = q_start[b + 1] - q_start[b];
    LLAMITA_CHECK(rows >= 0 && kv_len[b] >= rows, "sequence ", b, ": ", rows, " tokens of ", kv_len[b],
                  " keys");
    plan.max_kv_len = std::max(plan.max_kv_len, kv_len[b]);
    plan.max_q_len = std::max(plan.max_q_len, rows);
    for (int32_t row = 0; row < rows; row += AttentionPlan::kRowsPerItem) {
      const int32_t end = std::min(row + AttentionPlan::kRowsPerItem, rows);
      plan.items.push_back(
          {static_cast<int32_t>(b), q_start[b] + row, q_start[b] + end, kv_len[b] - rows + row});
    }
  }
  const auto work = [](const AttentionPlan::Item& item) {
    const int64_t rows = item.q_end - item.q_begin;
    return rows * (item.first_position + rows);
  };
  std::stable_sort(plan.items.begin(), plan.items.end(),
                   [&](const auto& a, const auto& b) { return work(a) > work(b); });
  return plan;
}

AttentionPlan bound_attention(int32_t max_q_len, int32_t max_kv_len) {
  AttentionPlan plan;
  plan.max_q_len = max_q_len;
  plan.max_kv_len = max_kv_len;
  return plan;
}

}  // namespace llamita
