// What Prometheus reads at /metrics, under the names that dashboards and gateways for LLM servers know.
// Recorded and rendered on the I/O thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "llamita/async_engine.h"

namespace llamita::server {

class Histogram {
 public:
  // `bounds` rise; values above the last fall into +Inf.
  explicit Histogram(std::vector<double> bounds);
  void observe(double value, int64_t times = 1);
  // The lines of one histogram. `labels`: `a="b"`.
  void render(std::string_view name, std::string_view labels, std::string& out) const;

 private:
  std::vector<double> bounds_;
  std::vector<int64_t> counts_;  // one more than bounds
  double sum_ = 0;
  int64_t count_ = 0;
};

struct HttpCounts {
  int connections = 0;
  int64_t body_bytes = 0;  // held, of all requests
  int64_t slow_readers_dropped = 0;
};

class Metrics {
 public:
  Metrics(std::string prefix, std::string model) : prefix_(std::move(prefix)), model_(std::move(model)) {}

  void set_model(std::string model) { model_ = std::move(model); }
  void first_token(double seconds) { first_token_.observe(seconds); }
  void next_tokens(double seconds, int64_t tokens);
  // A prompt's choices are done.
  void finished(const Completion& completion, double seconds, int max_tokens);
  // A reply to a request on `route` ("/v1/models", or "other").
  void replied(std::string_view route, int status) { ++replies_[{std::string(route), status}]; }
  // It ended early: its client left or read too slowly, or the server ends.
  void abandoned() { ++reasons_["abort"]; }
  // No step had part of it in time.
  void unserved() { ++reasons_["error"]; }

  // `stats` of the engine; nullptr while it is loading.
  std::string render(const EngineStats* stats, const HttpCounts& http) const;

 private:
  void render_engine(const EngineStats& stats, std::string& out) const;
  void render_own(const EngineStats& stats, std::string& out) const;
  void render_process(const HttpCounts& http, std::string& out) const;
  std::string labels() const;
  void line(std::string_view name, std::string_view type, std::string_view help, double value,
            std::string& out) const;
  void histogram(std::string_view name, std::string_view help, const Histogram& values,
                 std::string& out) const;

  std::string prefix_, model_;
  std::map<std::string, int64_t> reasons_{{"abort", 0}, {"error", 0}, {"length", 0}, {"stop", 0}};
  std::map<std::pair<std::string, int>, int64_t> replies_;

  static std::vector<double> seconds_bounds();
  static std::vector<double> token_seconds_bounds();
  static std::vector<double> token_count_bounds();
  Histogram first_token_{seconds_bounds()}, request_{seconds_bounds()}, queue_{seconds_bounds()},
      prefill_{seconds_bounds()}, decode_{seconds_bounds()}, inference_{seconds_bounds()};
  Histogram next_token_{token_seconds_bounds()}, per_token_{token_seconds_bounds()};
  Histogram prompt_tokens_{token_count_bounds()}, reply_tokens_{token_count_bounds()},
      max_tokens_{token_count_bounds()};
  Histogram choices_{{1, 2, 5, 10, 20}};
};

}  // namespace llamita::server
