#include "cli/bench_trace.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/cat.h"
#include "cli/numbers.h"

namespace llamita::cli {

namespace {

struct Sum {
  int64_t count = 0;
  double bytes = 0, flops = 0, predicted_us = 0, measured_us = 0;

  void add(const Sum& other) {
    count += other.count;
    bytes += other.bytes;
    flops += other.flops;
    predicted_us += other.predicted_us;
    measured_us += other.measured_us;
  }
};

std::string row(const std::string& op, const std::string& variant, const Sum& sum) {
  return cat("| ", op, " | ", variant, " | ", sum.count, " | ", fixed(sum.bytes / 1e6, 2), " | ",
             fixed(sum.flops / 1e9, 2), " | ", fixed(sum.predicted_us, 1), " | ", fixed(sum.measured_us, 1),
             " | ", fixed(sum.measured_us > 0 ? 100 * sum.predicted_us / sum.measured_us : 0, 1), " % |\n");
}

}  // namespace

std::string trace_table(const std::vector<OpRecord>& records, const TraceRoofs& roofs) {
  std::map<std::pair<std::string, std::string>, Sum> sums;
  Sum all;
  for (const OpRecord& record : records) {
    Sum one{1, record.cost.bytes_read + record.cost.bytes_written, record.cost.flops, 0, record.microseconds};
    const double memory_us = 1e6 * one.bytes / roofs.bytes_per_second;
    const double compute_us = roofs.flops_per_second > 0 ? 1e6 * one.flops / roofs.flops_per_second : 0;
    one.predicted_us = std::max(memory_us, compute_us);
    sums[{std::string(record.op), std::string(record.variant)}].add(one);
    all.add(one);
  }
  std::vector<std::pair<std::pair<std::string, std::string>, Sum>> ordered(sums.begin(), sums.end());
  std::stable_sort(ordered.begin(), ordered.end(),
                   [](const auto& a, const auto& b) { return a.second.measured_us > b.second.measured_us; });
  std::string out =
      "| op | variant | calls | MB | GFLOP | predicted µs | measured µs | of the roof |\n"
      "|---|---|---:|---:|---:|---:|---:|---:|\n";
  for (const auto& [key, sum] : ordered) out += row(key.first, key.second, sum);
  return out + row("all", "", all);
}

}  // namespace llamita::cli
