// llamita bench: prefill and decode speed, beside the machine's limits measured in the same run.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "base/cat.h"
#include "base/thread_pool.h"
#include "cli/commands.h"
#include "cli/engine_options.h"
#include "cli/machine_roofs.h"
#include "cli/model_card.h"
#include "cli/numbers.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/resolve_model.h"
#include "engine/direct_runner.h"
#include "formats/json.h"
#include "models/model.h"
#include "ops/linear/linear.h"

namespace llamita::cli {

namespace {

constexpr int64_t kMostTokens = 1 << 20;
constexpr int kMostSequences = 256;

std::vector<int> parse_list(const std::string& text, const char* what, int64_t low) {
  std::vector<int> list;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    list.push_back(static_cast<int>(parse_int(text.substr(begin, end - begin), what, low, kMostTokens)));
    begin = end + 1;
  }
  return list;
}

// What a token costs at the least.
struct TokenCost {
  double flops = 0;          // of a prefill token, without attention
  double bytes = 0;          // that a decode step reads at depth 0
  double flops_per_key = 0;  // attention, for each key that a token sees
  double bytes_per_key = 0;  // keys and values, for each token of context
};

TokenCost cost_of(const ModelCard& card, const Model& loaded, const EngineConfig& config) {
  const ModelConfig& model = card.config;
  // Prefill looks rows of the embedding up and needs the head for its last token only.
  const double table = static_cast<double>(model.vocab) * model.hidden;
  const double matrices = static_cast<double>(loaded.parameters()) - table * (model.tied_head ? 1 : 2);
  const double kv_elems = 2.0 * model.layers * model.kv_heads * model.head_dim;
  return {2 * matrices,
          static_cast<double>(loaded.weight_bytes() - (model.tied_head ? 0 : embedding_bytes(card))),
          4.0 * model.layers * model.heads * model.head_dim, kv_elems * (config.kv_dtype == "f32" ? 4 : 2)};
}

struct Row {
  std::string test;
  int threads = 0, tokens = 0, depth = 0, sequences = 1;
  double mean = 0, deviation = 0;  // tokens per second
  double achieved = 0, roof = 0;   // bytes/s of a tg row, flops/s of a pp row
  bool decode = false;
};

void finish(Row& row, const std::vector<double>& rates, double work_per_token, double roof) {
  for (const double rate : rates) row.mean += rate / static_cast<double>(rates.size());
  double squares = 0;
  for (const double rate : rates) squares += (rate - row.mean) * (rate - row.mean);
  if (rates.size() > 1) row.deviation = std::sqrt(squares / static_cast<double>(rates.size() - 1));
  row.achieved = row.mean * work_per_token;
  row.roof = roof;
}

class Bench : public Subcommand {
 public:
  std::string name() const override { return "bench"; }
  std::string summary() const override { return "measure speed against this machine's limits"; }
  std::string usage() const override { return "llamita bench [MODEL] [options]"; }
  std::string examples() const override {
    return "pp512 is a prompt of 512 tokens, tg128 the writing of 128; @ d4096 means after 4096 tokens that "
           "are in\n"
           "the cache already, x8 eight sequences at once, whose tokens count together. Decode rows are "
           "compared with the memory read bandwidth and prefill rows with "
           "the\n"
           "f32 multiply-add peak, both measured at the start; integer kernels may exceed the latter.\n"
           "\nExamples:\n"
           "  llamita bench model.gguf\n"
           "  llamita bench model.gguf -p 128,512 -n 64 -r 9 --threads 1,2\n"
           "  llamita bench model.gguf -p 0 -n 128 -d 0,4096,16384\n"
           "  llamita bench model.gguf -p 0 -n 32 -s 1,2,4,8,16\n";
  }

  void declare(OptionSet& options) override {
    options.positional("MODEL", false,
                       cat("folder, .gguf file, repository or known name (default ", kDefaultModel, ")"),
                       [this](const std::string& text) { model_ = text; });
    options.group("What to measure");
    options.value("-p,--prompt", "N,…", "prompt lengths (default 512; 0: none)",
                  [this](const std::string& text) { prompts_ = parse_list(text, "--prompt", 0); });
    options.value("-n,--generate", "N,…", "tokens to write (default 128; 0: none)",
                  [this](const std::string& text) { generates_ = parse_list(text, "--generate", 0); });
    options.value("-d,--depth", "N,…", "tokens that are in the cache before (default 0)",
                  [this](const std::string& text) { depths_ = parse_list(text, "--depth", 0); });
    options.value("-s,--sequences", "N,…", "sequences that write at once, one token a step each (default 1)",
                  [this](const std::string& text) {
                    sequences_ = parse_list(text, "--sequences", 1);
                    if (most(sequences_) > kMostSequences) {
                      throw UsageError(cat("--sequences: at most ", kMostSequences));
                    }
                  });
    options.value("-r,--repetitions", "N", "of each test (default 5)", [this](const std::string& text) {
      repetitions_ = static_cast<int>(parse_int(text, "--repetitions", 1, 1000));
    });
    options.value("-t,--threads", "N,…", "thread counts (default: as many as this process may use)",
                  [this](const std::string& text) { threads_ = parse_list(text, "--threads", 1); });
    options.flag("--json", "print one JSON object", json_);
    options.group("How the model runs");
    declare_kv_and_device(options, config_);
  }

  int run() override {
    const std::string path = resolve_model(model_);
    card_ = read_model_card(path);
    config_.context = longest();
    config_.batch_sequences = most(sequences_);
    Progress progress("loading");
    const auto model = load_model(
        path, [&](int64_t done, int64_t total) { progress.update(done, total); }, linear_cpu_layout());
    std::vector<Row> rows;
    if (threads_.empty()) threads_.push_back(usable_cores());
    for (const int threads : threads_) {
      config_.threads = threads;
      DirectRunner runner(*model, config_);
      ThreadPool pool(threads);
      const MachineRoofs roofs = measure_roofs(pool);
      if (!json_) print_roofs(roofs, runner.threads());
      measure(runner, cost_of(card_, *model, config_), roofs, rows);
    }
    print(json_ ? to_json(rows).dump() + "\n" : "\n" + to_table(rows));
    return 0;
  }

 private:
  static int most(const std::vector<int>& list) { return *std::max_element(list.begin(), list.end()); }
  // Tokens of the longest sequence that any test makes.
  int longest() const { return most(depths_) + room(); }
  int room() const { return std::max({most(prompts_), most(generates_), 1}); }

  void measure(DirectRunner& runner, const TokenCost& cost, const MachineRoofs& roofs,
               std::vector<Row>& rows) {
    for (const int depth : depths_) {
      const std::string at = depth > 0 ? cat(" @ d", depth) : "";
      runner.prefill(depth, 1, room());  // once: every test goes back to this depth
      for (const int tokens : prompts_) {
        if (tokens == 0) continue;
        Row row{cat("pp", tokens, at), runner.threads(), tokens, depth};
        const auto rates = repeat(tokens, [&] {
          runner.rewind(depth);
          return runner.extend(tokens);
        });
        const double keys = depth + (tokens + 1) / 2.0;
        finish(row, rates, cost.flops + cost.flops_per_key * keys, roofs.fma_flops_per_second);
        rows.push_back(row);
      }
      int opened = 1;
      for (const int sequences : sequences_) {
        if (most(generates_) == 0) break;
        if (sequences != opened) runner.prefill(depth, sequences, room());
        opened = sequences;
        for (const int tokens : generates_) {
          if (tokens > 0) rows.push_back(measure_decode(runner, cost, roofs, depth, sequences, tokens));
        }
      }
    }
  }

  Row measure_decode(DirectRunner& runner, const TokenCost& cost, const MachineRoofs& roofs, int depth,
                     int sequences, int tokens) const {
    Row row{cat("tg", tokens), runner.threads(), tokens, depth, sequences};
    if (sequences > 1) row.test += cat(" x", sequences);
    if (depth > 0) row.test += cat(" @ d", depth);
    row.decode = true;
    const auto rates = repeat(tokens * sequences, [&] {
      runner.rewind(depth);
      return runner.decode(tokens);
    });
    // A step reads the weights once and every sequence's cache.
    const double keys = depth + (tokens + 1) / 2.0;
    finish(row, rates, cost.bytes / sequences + cost.bytes_per_key * keys, roofs.read_bytes_per_second);
    return row;
  }

  // Tokens per second of each repetition, after one that does not count.
  template <class Seconds>
  std::vector<double> repeat(int tokens, const Seconds& seconds) const {
    std::vector<double> rates;
    seconds();
    for (int i = 0; i < repetitions_; ++i) rates.push_back(tokens / seconds());
    return rates;
  }

  static void print_roofs(const MachineRoofs& roofs, int threads) {
    print(cat(threads, threads == 1 ? " thread" : " threads", ": memory read ",
              fixed(roofs.read_bytes_per_second / 1e9, 1), " GB/s, f32 multiply-add ",
              fixed(roofs.fma_flops_per_second / 1e9, 0), " GFLOP/s\n"));
    flush_output();
  }

  std::string to_table(const std::vector<Row>& rows) const {
    std::string out =
        "| model | size | params | threads | test | tokens/s | achieved | of the roof |\n"
        "|---|---:|---:|---:|---|---:|---:|---:|\n";
    for (const Row& row : rows) {
      out +=
          cat("| ", display_name(model_), " | ", human_bytes(static_cast<double>(card_.file_bytes)), " | ",
              human_count(static_cast<double>(card_.parameters)), " | ", row.threads, " | ", row.test, " | ",
              fixed(row.mean, 2), " ± ", fixed(row.deviation, 2), " | ", fixed(row.achieved / 1e9, 1),
              row.decode ? " GB/s" : " GFLOP/s", " | ", fixed(100 * row.achieved / row.roof, 1), " % |\n");
    }
    return out;
  }

  Json to_json(const std::vector<Row>& rows) const {
    Json::Array list;
    for (const Row& row : rows) {
      list.push_back(Json(Json::Object{{"test", Json(row.test)},
                                       {"threads", Json(int64_t{row.threads})},
                                       {"tokens", Json(int64_t{row.tokens})},
                                       {"depth", Json(int64_t{row.depth})},
                                       {"sequences", Json(int64_t{row.sequences})},
                                       {"tokens_per_second", Json(row.mean)},
                                       {"standard_deviation", Json(row.deviation)},
                                       {"unit", Json(std::string(row.decode ? "bytes/s" : "flops/s"))},
                                       {"achieved", Json(row.achieved)},
                                       {"roof", Json(row.roof)}}));
    }
    return Json(Json::Object{{"model", Json(display_name(model_))},
                             {"bytes", Json(card_.file_bytes)},
                             {"parameters", Json(card_.parameters)},
                             {"repetitions", Json(int64_t{repetitions_})},
                             {"rows", Json(std::move(list))}});
  }

  std::string model_;
  std::vector<int> prompts_ = {512}, generates_ = {128}, depths_ = {0}, sequences_ = {1}, threads_;
  int repetitions_ = 5;
  bool json_ = false;
  EngineConfig config_;
  ModelCard card_;
};

}  // namespace

std::unique_ptr<Subcommand> make_bench() { return std::make_unique<Bench>(); }

}  // namespace llamita::cli
