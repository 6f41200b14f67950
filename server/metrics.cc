#include "server/metrics.h"

#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/cat.h"
#include "server/api/reply_format.h"

namespace llamita::server {

namespace {

// As the text format has it: \, " and newlines of a label's value are escaped.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out;
}

void header(std::string_view name, std::string_view type, std::string_view help, std::string& out) {
  out += cat("# HELP ", name, " ", help, "\n# TYPE ", name, " ", type, "\n");
}

int64_t resident_bytes() {
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  if (file == nullptr) return 0;
  long total = 0, resident = 0;
  const int read = std::fscanf(file, "%ld %ld", &total, &resident);
  std::fclose(file);
  return read == 2 ? int64_t{resident} * ::sysconf(_SC_PAGESIZE) : 0;
}

int64_t open_descriptors() {
  DIR* folder = ::opendir("/proc/self/fd");
  if (folder == nullptr) return 0;
  int64_t count = -3;  // ".", ".." and the folder itself
  while (::readdir(folder) != nullptr) ++count;
  ::closedir(folder);
  return count;
}

}  // namespace

Histogram::Histogram(std::vector<double> bounds) : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}

void Histogram::observe(double value, int64_t times) {
  const auto place = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  counts_[static_cast<size_t>(place)] += times;
  sum_ += value * static_cast<double>(times);
  count_ += times;
}

void Histogram::render(std::string_view name, std::string_view labels, std::string& out) const {
  int64_t below = 0;
  for (size_t i = 0; i < counts_.size(); ++i) {
    below += counts_[i];
    const std::string bound = i < bounds_.size() ? cat(bounds_[i]) : "+Inf";
    out += cat(name, "_bucket{", labels, ",le=\"", bound, "\"} ", below, "\n");
  }
  out += cat(name, "_sum{", labels, "} ", sum_, "\n", name, "_count{", labels, "} ", count_, "\n");
}

std::vector<double> Metrics::seconds_bounds() {
  return {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640};
}
std::vector<double> Metrics::token_seconds_bounds() {
  return {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5};
}
std::vector<double> Metrics::token_count_bounds() {
  return {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000};
}

void Metrics::next_tokens(double seconds, int64_t tokens) {
  if (tokens > 0) next_token_.observe(seconds / static_cast<double>(tokens), tokens);
}

void Metrics::finished(const Completion& completion, double seconds, int max_tokens) {
  if (never_begun(completion)) return unserved();
  request_.observe(seconds);
  queue_.observe(completion.queue_seconds);
  prefill_.observe(completion.prefill_seconds);
  decode_.observe(completion.decode_seconds);
  inference_.observe(completion.prefill_seconds + completion.decode_seconds);
  prompt_tokens_.observe(completion.prompt_tokens);
  reply_tokens_.observe(completion.completion_tokens);
  const auto choices = static_cast<int64_t>(completion.choices.size());
  choices_.observe(static_cast<double>(choices));
  if (max_tokens > 0) max_tokens_.observe(max_tokens);
  const int64_t later = completion.completion_tokens - choices;  // after each choice's first
  if (later > 0 && choices > 0) {
    per_token_.observe(completion.decode_seconds * static_cast<double>(choices) / static_cast<double>(later));
  }
  for (const Choice& choice : completion.choices) {
    switch (choice.finish) {
      case FinishReason::stop: ++reasons_["stop"]; break;
      case FinishReason::length:
      case FinishReason::deadline: ++reasons_["length"]; break;
      case FinishReason::cancelled: ++reasons_["abort"]; break;
      case FinishReason::error: ++reasons_["error"]; break;
    }
  }
}

std::string Metrics::labels() const { return cat("model_name=\"", escaped(model_), "\",engine=\"0\""); }

void Metrics::line(std::string_view name, std::string_view type, std::string_view help, double value,
                   std::string& out) const {
  const std::string full = cat(prefix_, ":", name);
  header(full, type, help, out);
  out += cat(full, "{", labels(), "} ", value, "\n");
}

void Metrics::histogram(std::string_view name, std::string_view help, const Histogram& values,
                        std::string& out) const {
  const std::string full = cat(prefix_, ":", name);
  header(full, "histogram", help, out);
  values.render(full, labels(), out);
}

void Metrics::render_engine(const EngineStats& stats, std::string& out) const {
  const auto count = [](int64_t value) { return static_cast<double>(value); };
  const double used = stats.blocks > 0 ? double(stats.blocks_used) / stats.blocks : 0;
  line("num_requests_running", "gauge", "Sequences in the batch.", stats.running, out);
  line("num_requests_waiting", "gauge", "Sequences that wait for room.", stats.waiting, out);
  line("kv_cache_usage_perc", "gauge", "Part of the KV blocks in use, 1 is all.", used, out);
  line("gpu_cache_usage_perc", "gauge", "The same under its older name.", used, out);
  line("num_preemptions_total", "counter", "Sequences set back to waiting.", count(stats.preemptions), out);
  line("prompt_tokens_total", "counter", "Prompt tokens computed.", count(stats.prompt_tokens), out);
  line("generation_tokens_total", "counter", "Tokens generated.", count(stats.generated_tokens), out);
  line("prefix_cache_queries_total", "counter", "Prompt tokens looked up in the prefix cache.",
       count(stats.prefix_query_tokens), out);
  line("prefix_cache_hits_total", "counter", "Prompt tokens found there.", count(stats.prefix_hit_tokens),
       out);
  // Of the steps only their number and sum are kept, so all fall into the last bucket.
  const std::string steps = cat(prefix_, ":iteration_tokens_total");
  header(steps, "histogram", "Tokens of a step.", out);
  out += cat(steps, "_bucket{", labels(), ",le=\"+Inf\"} ", stats.steps, "\n", steps, "_sum{", labels(), "} ",
             stats.step_tokens, "\n", steps, "_count{", labels(), "} ", stats.steps, "\n");
  const std::string config = cat(prefix_, ":cache_config_info");
  header(config, "gauge", "How the KV cache is laid out.", out);
  out += cat(config, "{", labels(), ",block_size=\"", stats.block_tokens, "\",num_gpu_blocks=\"",
             stats.blocks, "\"} 1\n");
}

// What vLLM has no name for.
void Metrics::render_own(const EngineStats& stats, std::string& out) const {
  const auto own = [&](std::string_view name, std::string_view type, std::string_view help, int64_t value) {
    const std::string full = cat("llamita_", name);
    header(full, type, help, out);
    out += cat(full, "{", labels(), "} ", value, "\n");
  };
  own("kv_blocks_used", "gauge", "KV blocks in use.", stats.blocks_used);
  own("kv_blocks_shared", "gauge", "Those of two sequences or more.", stats.blocks_shared);
  own("step_prefill_tokens", "gauge", "Prompt tokens of the last step.", stats.step_prefill_tokens);
  own("step_decode_tokens", "gauge", "Tokens of replies of the last step.", stats.step_decode_tokens);
  own("engine_steps_total", "counter", "Steps of the engine.", stats.steps);
  const std::string cancelled = "llamita_cancelled_requests_total";
  header(cancelled, "counter",
         "Requests cut short by how far they were: their clients left or read too slowly, another prompt of "
         "theirs failed, or the server ended.",
         out);
  for (const auto& [phase, times] :
       {std::pair("queued", stats.cancelled_queued), std::pair("prefill", stats.cancelled_prefill),
        std::pair("decode", stats.cancelled_decode)}) {
    out += cat(cancelled, "{", labels(), ",phase=\"", phase, "\"} ", times, "\n");
  }
}

void Metrics::render_process(const HttpCounts& http, std::string& out) const {
  header("llamita_http_connections", "gauge", "Open connections.", out);
  out += cat("llamita_http_connections ", http.connections, "\n");
  header("llamita_http_body_bytes", "gauge", "Bytes of bodies that arrive or wait to be parsed.", out);
  out += cat("llamita_http_body_bytes ", http.body_bytes, "\n");
  header("llamita_slow_readers_dropped_total", "counter", "Connections closed for reading too slowly.", out);
  out += cat("llamita_slow_readers_dropped_total ", http.slow_readers_dropped, "\n");
  header("llamita_http_replies_total", "counter", "Replies by route and status.", out);
  for (const auto& [key, count] : replies_) {
    out += cat("llamita_http_replies_total{route=\"", escaped(key.first), "\",status=\"", key.second, "\"} ",
               count, "\n");
  }
  header("process_resident_memory_bytes", "gauge", "Resident memory.", out);
  out += cat("process_resident_memory_bytes ", resident_bytes(), "\n");
  header("process_open_fds", "gauge", "Open file descriptors.", out);
  out += cat("process_open_fds ", open_descriptors(), "\n");
}

std::string Metrics::render(const EngineStats* stats, const HttpCounts& http) const {
  std::string out;
  if (stats != nullptr) {
    render_engine(*stats, out);
    render_own(*stats, out);
  }
  const std::string success = cat(prefix_, ":request_success_total");
  header(success, "counter", "Replies by how they ended.", out);
  for (const auto& [reason, count] : reasons_) {
    out += cat(success, "{", labels(), ",finished_reason=\"", reason, "\"} ", count, "\n");
  }
  histogram("time_to_first_token_seconds", "From a request's arrival to its first token.", first_token_, out);
  histogram("inter_token_latency_seconds", "Between a reply's tokens.", next_token_, out);
  histogram("time_per_output_token_seconds", "The same under its older name.", next_token_, out);
  histogram("request_time_per_output_token_seconds", "Mean over a reply's tokens after the first.",
            per_token_, out);
  histogram("e2e_request_latency_seconds", "From a request's arrival to its end.", request_, out);
  histogram("request_queue_time_seconds", "Waiting.", queue_, out);
  histogram("request_prefill_time_seconds", "In prefill.", prefill_, out);
  histogram("request_decode_time_seconds", "In decode.", decode_, out);
  histogram("request_inference_time_seconds", "In prefill and decode.", inference_, out);
  histogram("request_prompt_tokens", "Tokens of a prompt.", prompt_tokens_, out);
  histogram("request_generation_tokens", "Tokens of a reply.", reply_tokens_, out);
  histogram("request_params_n", "Choices asked for.", choices_, out);
  histogram("request_params_max_tokens", "Longest reply asked for.", max_tokens_, out);
  render_process(http, out);
  return out;
}

}  // namespace llamita::server
