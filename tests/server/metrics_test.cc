// The exposition is what Prometheus parses.
#include "server/metrics.h"

#include <gtest/gtest.h>

#include <cctype>
#include <fstream>
#include <sstream>

namespace llamita::server {
namespace {

TEST(Histogram, BucketsAccumulate) {
  Histogram histogram({1, 2});
  histogram.observe(1);
  histogram.observe(1.5, 2);
  histogram.observe(9);
  std::string out;
  histogram.render("h", "a=\"b\"", out);
  EXPECT_EQ(out,
            "h_bucket{a=\"b\",le=\"1\"} 1\nh_bucket{a=\"b\",le=\"2\"} 3\nh_bucket{a=\"b\",le=\"+Inf\"} 4\n"
            "h_sum{a=\"b\"} 13\nh_count{a=\"b\"} 4\n");
}

TEST(Metrics, LabelsAreEscapedAndNamesHaveThePrefix) {
  Metrics metrics("llamita", "a\"b\\c\nd");
  const EngineStats stats{};
  const std::string text = metrics.render(&stats, {});
  EXPECT_NE(text.find("llamita:num_requests_waiting{model_name=\"a\\\"b\\\\c\\nd\",engine=\"0\"} 0\n"),
            std::string::npos);
  EXPECT_EQ(text.find("vllm:"), std::string::npos);
}

// Of names that vLLM does not have, nobody expects its prefix.
TEST(Metrics, OwnNamesAreLlamitas) {
  EngineStats stats;
  stats.cancelled_prefill = 4;
  stats.blocks_shared = 5;
  const std::string text = Metrics("vllm", "m").render(&stats, {});
  for (const char* line :
       {"\nllamita_cancelled_requests_total{model_name=\"m\",engine=\"0\",phase=\"prefill\"} 4\n",
        "\nllamita_engine_steps_total{model_name=\"m\",engine=\"0\"} 0\n",
        "\nllamita_kv_blocks_shared{model_name=\"m\",engine=\"0\"} 5\n"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line;
  }
}

TEST(Metrics, EachTypeIsDeclaredOnce) {
  Metrics metrics("vllm", "m");
  const EngineStats stats{};
  const std::string text = metrics.render(&stats, {});
  for (size_t at = text.find("# TYPE "); at != std::string::npos; at = text.find("# TYPE ", at + 1)) {
    const std::string line = text.substr(at, text.find(' ', at + 7) - at + 1);
    EXPECT_EQ(text.find(line, at + 1), std::string::npos) << line;
  }
}

TEST(Metrics, StepsAndTheCacheAreDescribed) {
  EngineStats stats;
  stats.steps = 3;
  stats.step_tokens = 500;
  stats.block_tokens = 64;
  stats.blocks = 9;
  const std::string text = Metrics("vllm", "m").render(&stats, {});
  EXPECT_NE(text.find("vllm:iteration_tokens_total_sum{model_name=\"m\",engine=\"0\"} 500\n"),
            std::string::npos);
  EXPECT_NE(text.find("vllm:iteration_tokens_total_count{model_name=\"m\",engine=\"0\"} 3\n"),
            std::string::npos);
  EXPECT_NE(text.find("block_size=\"64\",num_gpu_blocks=\"9\""), std::string::npos);
}

// Whatever the dashboard asks Prometheus for is there.
TEST(Metrics, TheDashboardFindsItsNames) {
  Metrics metrics("vllm", "m");
  metrics.replied("/health", 200);
  const EngineStats stats{};
  const std::string text = metrics.render(&stats, {});
  std::ifstream file(std::string(LLAMITA_SOURCE_DIR) + "/docs/grafana-dashboard.json");
  std::stringstream content;
  content << file.rdbuf();
  std::string dashboard = content.str();
  EXPECT_EQ(dashboard.find("vllm:"), std::string::npos) << "its variable holds the prefix";
  const std::string variable = "${prefix}:";
  for (size_t at; (at = dashboard.find(variable)) != std::string::npos;) {
    dashboard.replace(at, variable.size(), "vllm:");
  }
  int found = 0;
  const auto in_name = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == ':';
  };
  for (const char* prefix : {"vllm:", "llamita_", "process_"}) {
    for (size_t at = dashboard.find(prefix); at != std::string::npos; at = dashboard.find(prefix, at + 1)) {
      size_t end = at;
      while (end < dashboard.size() && in_name(dashboard[end])) ++end;
      const std::string name = dashboard.substr(at, end - at);
      EXPECT_NE(text.find("\n" + name + "{"), text.find("\n" + name + " "))
          << name << " is in the dashboard alone";
      ++found;
    }
  }
  EXPECT_GT(found, 10);
}

}  // namespace
}  // namespace llamita::server
