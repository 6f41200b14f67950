// llamita bench: prefill and decode speed, beside the machine's limits measured in the same run.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "base/cat.h"
#include "base/thread_pool.h"
#include "base/timer.h"
#include "cli/bench_trace.h"
#include "cli/commands.h"
#include "cli/engine_options.h"
#include "cli/machine_roofs.h"
#include "cli/made_up_folder.h"
#include "cli/numbers.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/resolve_model.h"
#include "cli/settings.h"
#include "cli/shapes.h"
#include "cli/vision_cost.h"
#include "engine/compute_device.h"
#include "engine/direct_runner.h"
#include "formats/json.h"
#include "hub/known_models.h"
#include "hw/cuda/device_properties.h"
#include "hw/cuda/measure.h"
#include "models/model.h"

namespace llamita::cli {

namespace {

constexpr int64_t kMostTokens = 1 << 20;
constexpr int kMostSequences = 256;
constexpr int kWordsBesideImage = 32;

std::vector<int> parse_list(const std::string& text, const char* what, int64_t low) {
  std::vector<int> list;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    list.push_back(static_cast<int>(parse_int(text.substr(begin, end - begin), what, low, kMostTokens)));
    begin = end + 1;
  }
  return list;
}

// What is measured: a model of files, or a shape with made-up weights.
struct Subject {
  std::string name;
  std::unique_ptr<Model> model;
  double load_seconds = 0;
};

// What a token costs at the least.
struct TokenCost {
  double flops = 0;          // of a prefill token, without attention
  double bytes = 0;          // that a decode step reads at depth 0, whatever the batch
  double flops_per_key = 0;  // attention, for each key that a token sees
  double bytes_per_key = 0;  // keys and values, for each token of context
};

TokenCost cost_of(const Model& loaded, int64_t kv_bytes_per_token) {
  const ModelConfig& model = loaded.config();
  // Prefill looks rows of the embedding up and needs the head for its last token only.
  const double table = static_cast<double>(model.vocab) * model.hidden;
  const double seeing = vision_cost(model).parameters;
  const double matrices =
      static_cast<double>(loaded.parameters()) - seeing - table * (model.tied_head ? 1 : 2);
  const double seeing_bytes =
      seeing / static_cast<double>(loaded.parameters()) * static_cast<double>(loaded.weight_bytes());
  return {2 * matrices,
          static_cast<double>(loaded.weight_bytes() - (model.tied_head ? 0 : loaded.embedding_bytes())) -
              seeing_bytes,
          4.0 * model.layers * model.heads * model.head_dim, static_cast<double>(kv_bytes_per_token)};
}

// The limits of the device that runs the model; what is not known is 0.
struct Roofs {
  double read_bytes_per_second = 0, flops_per_second = 0;
  std::string text;
};

Roofs measure_roofs_of(const Placement& placement, int threads) {
  if (placement.on_gpu()) {
    const cuda::DeviceProperties card = cuda::device_properties(placement.device.index);
    const double read = cuda::measure_read_bandwidth(placement.device.index);
    return {read, card.bf16_flops_per_second,
            cat(card.name, ": memory read ", fixed(read / 1e9, 0), " GB/s measured, bf16 products ",
                fixed(card.bf16_flops_per_second / 1e12, 0), " TFLOP/s at its highest clock\n")};
  }
  ThreadPool pool(threads);
  const MachineRoofs roofs = measure_roofs(pool);
  return {roofs.read_bytes_per_second, roofs.fma_flops_per_second,
          cat(pool.threads(), pool.threads() == 1 ? " thread" : " threads", ": memory read ",
              fixed(roofs.read_bytes_per_second / 1e9, 1), " GB/s, f32 multiply-add ",
              fixed(roofs.fma_flops_per_second / 1e9, 0), " GFLOP/s\n")};
}

struct Row {
  std::string test, device;
  int threads = 0, tokens = 0, depth = 0, batch = 1;
  double mean = 0, deviation = 0;  // tokens per second, of all sequences together
  std::vector<double> rates;       // of the repetitions
  double milliseconds = 0;         // of a decode step, or of the whole prompt
  double achieved = 0, roof = 0;   // bytes/s of a tg row, flops/s of a pp row
  bool decode = false;
};

constexpr int kWarmUpTokens = 16;  // decoded on a CPU before a row is timed

void finish(Row& row, const std::vector<double>& seconds, double work, double roof) {
  std::vector<double>& rates = row.rates;
  for (const double each : seconds) rates.push_back(static_cast<double>(row.batch) * row.tokens / each);
  for (const double rate : rates) row.mean += rate / static_cast<double>(rates.size());
  double squares = 0;
  for (const double rate : rates) squares += (rate - row.mean) * (rate - row.mean);
  if (rates.size() > 1) row.deviation = std::sqrt(squares / static_cast<double>(rates.size() - 1));
  row.milliseconds = 1e3 * row.batch / row.mean * (row.decode ? 1 : row.tokens);
  row.achieved = work / (1e-3 * row.milliseconds);
  row.roof = roof;
}

class Bench : public Subcommand {
 public:
  std::string name() const override { return "bench"; }
  std::string summary() const override { return "measure speed against this machine's limits"; }
  std::string usage() const override { return "llamita bench [MODEL] [options]"; }
  std::string examples() const override {
    return "pp512 is a prompt of 512 tokens, tg128 the writing of 128; x 12 means 12 sequences together, "
           "and\n"
           "@ d4096 after 4096 tokens that are in the cache already. Decode rows are compared with the "
           "memory\n"
           "read bandwidth measured at the start, prefill rows with the f32 multiply-add peak of the CPU, "
           "also\n"
           "measured (integer kernels may exceed it), or with what a GPU could do at its highest clock.\n"
           "Of a model that takes images also the first token of a prompt of one image and 32 tokens, from "
           "its\n"
           "pixels to the chosen token, and the writing after it.\n"
           "\nExamples:\n"
           "  llamita bench model.gguf\n"
           "  llamita bench model.gguf -p 128,512 -n 64 -r 9 --threads 1,2\n"
           "  llamita bench model.gguf -p 0 -n 128 -d 0,4096,16384\n"
           "  llamita bench model.gguf -p 0 -n 32 -b 1,2,4,8,16\n"
           "  llamita bench --shape llama-3.2-3b --device cuda -p 2048 -d 128 -b 1,12,64 --trace\n";
  }

  void declare(OptionSet& options) override {
    options.positional("MODEL", false,
                       cat("folder, .gguf file, repository or known name (default ", kDefaultModel, ")"),
                       [this](const std::string& text) { model_ = text; });
    options.group("What to measure");
    options.value("--shape", "NAME", cat("made-up weights in the shape of a known model: ", shape_names()),
                  [this](const std::string& text) {
                    config_of_shape(text);
                    shape_ = text;
                  });
    options.value("--save", "DIR", "only write the shape's weights, as a model folder",
                  [this](const std::string& text) { save_ = text; });
    options.value("--tokenizer", "FILE",
                  cat("the tokenizer of that folder: a tokenizer.json or a .gguf file (default: that of ",
                      kDefaultModel, ", where it has been downloaded, else one of single bytes)"),
                  [this](const std::string& text) { tokenizer_ = text; });
    options.value("-p,--prompt", "N,…", "prompt lengths (default 512; 0: none)",
                  [this](const std::string& text) { take_list("--prompt", prompts_, text, 0); });
    options.value("-n,--generate", "N,…", "tokens to write (default 128; 0: none)",
                  [this](const std::string& text) { take_list("--generate", generates_, text, 0); });
    options.value("-d,--depth", "N,…", "tokens that are in the cache before (default 0)",
                  [this](const std::string& text) { take_list("--depth", depths_, text, 0); });
    options.value("-b,--batch", "N,…", "sequences at once (default 1)", [this](const std::string& text) {
      take_list("--batch", batches_, text, 1);
      if (most(batches_) > kMostSequences) throw UsageError(cat("--batch: at most ", kMostSequences));
    });
    options.value("-r,--repetitions", "N", "of each test (default 5)", [this](const std::string& text) {
      repetitions_ = static_cast<int>(parse_int(text, "--repetitions", 1, 1000));
    });
    options.value(
        "--sample", "HOW",
        "tg rows choose their tokens and feed them back: none (default: made-up tokens), greedy, or "
        "chat (temperature 0.7, top-p 0.95; made-up weights make it choose among very many)",
        [this](const std::string& text) {
          if (text != "none" && text != "greedy" && text != "chat")
            throw UsageError(cat("--sample: expected none, greedy or chat, got '", text, "'"));
          sample_ = text;
        });
    options.value(
        "--steps-under-way", "N",
        "with --sample: 2 sends a step before the tokens of the one before are there (default 2 on a "
        "GPU, 1 on the CPU)",
        [this](const std::string& text) {
          config_.steps_under_way = static_cast<int>(parse_int(text, "--steps-under-way", 1, 2));
        });
    options.value("-t,--threads", "N,…", "thread counts (default: as many as this process may use)",
                  [this](const std::string& text) { threads_ = parse_list(text, "--threads", 1); });
    declare_pinning(options, config_);
    options.flag("--trace", "also where the time of a step goes, op by op, predicted and measured", trace_);
    options.flag("--json", "print one JSON object", json_);
    options.group("How the model runs");
    options.value("--batch-tokens", "N", "most tokens of one step (default 512, on a GPU 8192)",
                  [this](const std::string& text) {
                    batch_tokens_ = static_cast<int>(parse_int(text, "--batch-tokens", 1, kMostTokens));
                  });
    declare_kv_and_device(options, config_);
    declare_packed_cache(options, config_);
  }

  int run() override {
    if (!model_.empty() && !shape_.empty())
      throw UsageError(cat("--shape makes its weights up: it leaves no place for ", model_));
    if (sample_ == "none" && config_.steps_under_way != 0)
      throw UsageError("--steps-under-way is of steps that choose tokens: say how to --sample");
    if (!save_.empty() && !measured_.empty())
      throw UsageError(cat("--save only writes: ", measured_, " has nothing to measure"));
    if (save_.empty() && most(prompts_) == 0 && most(generates_) == 0)
      throw UsageError("--prompt 0 and --generate 0 leave nothing to measure");
    if (!shape_.empty() && !config_.packed_cache.empty())
      throw UsageError("--packed-cache keeps what was made of a file: the weights of --shape are in none");
    if (save_.empty() && !tokenizer_.empty())
      throw UsageError("--tokenizer is written by --save: say where to");
    if (!save_.empty()) return save();
    const Placement placement = choose_placement(config_);
    config_.context = longest();
    if (const auto vision = config_of_subject().vision)
      config_.context = std::max(config_.context, image_prompt(*vision) + room());
    config_.batch_sequences = most(batches_);
    config_.batch_tokens = batch_tokens_ > 0 ? batch_tokens_ : placement.on_gpu() ? 8192 : 512;
    if (!placement.on_gpu()) config_.kv_bytes = cpu_cache_bytes();
    const Subject subject = load(placement);
    std::vector<Row> rows;
    if (threads_.empty()) threads_.push_back(usable_cores());
    if (placement.on_gpu()) threads_.resize(1);  // they only choose tokens there
    for (const int threads : threads_) {
      config_.threads = threads;
      const Roofs roofs = measure_roofs_of(placement, threads);
      DirectRunner runner(*subject.model, config_);
      if (!json_) print_head(subject, roofs, runner.memory_plan());
      measure(runner, *subject.model, roofs, rows);
      if (trace_ && !json_) print_traces(runner, roofs);
      if (trace_ && !json_ && subject.model->config().vision) print_image_trace(runner, roofs);
    }
    print(json_ ? to_json(subject, rows).dump() + "\n" : "\n" + to_table(subject, rows));
    return 0;
  }

 private:
  // A list of `name`, which says what to measure.
  void take_list(const char* name, std::vector<int>& list, const std::string& text, int least) {
    list = parse_list(text, name, least);
    measured_ = name;
  }

  int save() {
    if (shape_.empty()) throw UsageError("--save writes made-up weights: say of which --shape");
    ThreadPool pool(threads_.empty() ? 0 : threads_.front());
    if (tokenizer_.empty()) {
      if (const auto model = hub::find_fetched(*hub::find_known_model(kDefaultModel)))
        tokenizer_ = model->string();
      else
        print(cat(kDefaultModel, " has not been downloaded: the tokenizer is one of single bytes\n"));
    }
    const TensorFiles files = TensorFiles::made_up(config_of_shape(shape_), shape_);
    write_made_up_folder(files, save_, tokenizer_, pool);
    print(cat("wrote ", shape_, " with made-up weights to ", save_, "\n"));
    return 0;
  }

  Subject load(const Placement& placement) {
    const Stopwatch watch;
    Subject subject;
    const auto from = [&](const TensorFiles& files) {
      require_room(files, config_, placement);
      Progress progress("loading");
      subject.model = load_model(
          files, [&](int64_t done, int64_t total) { progress.update(done, total); }, placement,
          config_.packed_cache);
    };
    if (shape_.empty()) {
      subject.name = display_name(model_);
      from(TensorFiles::open(resolve_model(model_)));
    } else {
      subject.name = shape_;
      from(TensorFiles::made_up(config_of_shape(shape_), shape_));
    }
    subject.load_seconds = watch.seconds();
    return subject;
  }

  static int most(const std::vector<int>& list) { return *std::max_element(list.begin(), list.end()); }
  // Tokens of the longest sequence that any test makes.
  int longest() const { return most(depths_) + room(); }
  int room() const { return std::max({most(prompts_), most(generates_), 1}); }

  ModelConfig config_of_subject() const {
    return shape_.empty() ? read_model_config(resolve_model(model_))
                          : measure_model(TensorFiles::made_up(config_of_shape(shape_), shape_)).config;
  }

  // Room for as many such sequences as run at once; 0, the default, is room for one.
  int64_t cpu_cache_bytes() const {
    if (config_.batch_sequences == 1) return 0;
    return plan_memory(config_of_subject(), config_, 0).kv_bytes * config_.batch_sequences;
  }

  void measure(DirectRunner& runner, const Model& model, const Roofs& roofs, std::vector<Row>& rows) {
    const TokenCost cost = cost_of(model, runner.memory_plan().kv_bytes_per_token);
    if (model.config().vision) measure_images(runner, model, roofs, cost, rows);
    for (const int batch : batches_) {
      int filled = -1;  // tokens that are there
      for (const int depth : depths_) {
        // Once: every test goes back to this depth, and a deeper one goes on from it.
        if (filled < 0 || depth < filled) {
          runner.prefill(depth, batch, longest() - depth);
        } else {
          runner.rewind(filled);
          if (depth > filled) runner.extend(depth - filled);
        }
        filled = depth;
        for (const bool decode : {false, true}) {
          for (const int tokens : decode ? generates_ : prompts_) {
            if (tokens == 0) continue;
            const std::string how = decode && sample_ != "none" ? cat(" ", sample_) : "";
            Row row{cat(decode ? "tg" : "pp", tokens, how, batch > 1 ? cat(" x ", batch) : std::string(),
                        depth > 0 ? cat(" @ d", depth) : std::string())};
            row.device = runner.device_name();
            row.threads = runner.threads(), row.tokens = tokens, row.depth = depth, row.batch = batch;
            row.decode = decode;
            const bool gpu = model.placement().on_gpu();
            const auto run = [&](int count) {
              runner.rewind(depth);
              return decode ? run_decode(runner, count, gpu) : runner.extend(count);
            };
            // On a GPU each length may have a launch that it is the first to need.
            const int first = decode && !gpu ? std::min(tokens, kWarmUpTokens) : tokens;
            const auto seconds = repeat([&] { return run(tokens); }, [&] { return run(first); });
            const double keys = depth + (tokens + 1) / 2.0;
            if (decode) {
              finish(row, seconds, cost.bytes + cost.bytes_per_key * keys * batch,
                     roofs.read_bytes_per_second);
            } else {
              const double all = static_cast<double>(batch) * tokens;
              finish(row, seconds, all * (cost.flops + cost.flops_per_key * keys), roofs.flops_per_second);
            }
            rows.push_back(row);
          }
        }
      }
    }
  }

  static int image_prompt(const VisionConfig& vision) { return vision.image_rows() + kWordsBesideImage; }

  // The first token of an image with words beside it, of every sequence of a batch, and decoding after it.
  void measure_images(DirectRunner& runner, const Model& model, const Roofs& roofs, const TokenCost& cost,
                      std::vector<Row>& rows) {
    const int tokens = image_prompt(*model.config().vision);
    const double device_keys = (tokens + 1) / 2.0;
    for (const int batch : batches_) {
      Row row{cat("first token, image + ", kWordsBesideImage, batch > 1 ? cat(" x ", batch) : std::string())};
      row.device = runner.device_name();
      row.threads = runner.threads(), row.tokens = tokens, row.batch = batch;
      const double work =
          tokens * (cost.flops + cost.flops_per_key * device_keys) + vision_cost(model.config()).flops;
      finish(row, repeat([&] { return runner.see(kWordsBesideImage, batch, room()); }), batch * work,
             roofs.flops_per_second);
      rows.push_back(row);
      for (const int written : generates_) {
        if (written == 0) continue;
        Row decode{cat("tg", written, batch > 1 ? cat(" x ", batch) : std::string(), " after an image")};
        decode.device = row.device;
        decode.threads = row.threads, decode.tokens = written, decode.depth = tokens, decode.batch = batch;
        decode.decode = true;
        const auto seconds = repeat([&] {
          runner.rewind(tokens);
          return runner.decode(written);
        });
        finish(decode, seconds, cost.bytes + cost.bytes_per_key * (tokens + (written + 1) / 2.0) * batch,
               roofs.read_bytes_per_second);
        rows.push_back(decode);
      }
    }
  }

  double run_decode(DirectRunner& runner, int tokens, bool gpu) const {
    if (sample_ == "none") return runner.decode(tokens);
    SamplingRow row;
    if (sample_ == "greedy") {
      row.temperature = 0;
    } else {
      const SamplingParams chat = default_sampling(0);
      row.temperature = chat.temperature, row.top_p = chat.top_p;
    }
    const int steps = config_.steps_under_way > 0 ? config_.steps_under_way : gpu ? 2 : 1;
    return runner.decode_sampled(tokens, row, steps);
  }

  // One decode step and one prompt of the largest size asked for, op by op.
  void print_traces(DirectRunner& runner, const Roofs& roofs) const {
    const int depth = depths_.back();
    const bool gpu = runner.memory_plan().caps.device == DeviceKind::cuda;
    for (const int batch : batches_) {
      for (const bool decode : {true, false}) {
        const int tokens = decode ? std::min(generates_.back(), 1) : prompts_.back();
        if (tokens == 0) continue;
        std::vector<OpRecord> records;
        uint32_t regions = 0;
        for (int pass = 0; pass < 2; ++pass) {  // the first one warms up
          runner.prefill(depth, batch, tokens);
          records.clear();
          regions = runner.regions();
          runner.record_to(&records);
          decode ? run_decode(runner, tokens, gpu) : runner.extend(tokens);
          runner.record_to(nullptr);
          regions = runner.regions() - regions;
        }
        print(cat("\n", decode ? "A decode step of " : "A prompt of ", decode ? batch : tokens,
                  decode ? (batch == 1 ? " sequence" : " sequences") : cat(" tokens x ", batch), " after ",
                  depth, " tokens",
                  gpu ? std::string() : cat(", ", records.size(), " ops in ", regions, " parallel regions"),
                  ":\n", trace_table(records, {roofs.read_bytes_per_second, roofs.flops_per_second})));
      }
    }
  }

  void print_image_trace(DirectRunner& runner, const Roofs& roofs) const {
    std::vector<OpRecord> records;
    runner.see(kWordsBesideImage, 1, 0);
    runner.record_to(&records);
    runner.see(kWordsBesideImage, 1, 0);
    runner.record_to(nullptr);
    print(cat("\nA prompt of one image and ", kWordsBesideImage, " tokens:\n",
              trace_table(records, {roofs.read_bytes_per_second, roofs.flops_per_second})));
  }

  // Seconds of each repetition, after one that does not count.
  template <class Seconds>
  std::vector<double> repeat(const Seconds& seconds) const {
    return repeat(seconds, seconds);
  }
  template <class Seconds, class WarmUp>
  std::vector<double> repeat(const Seconds& seconds, const WarmUp& warm_up) const {
    std::vector<double> all;
    warm_up();
    for (int i = 0; i < repetitions_; ++i) all.push_back(seconds());
    return all;
  }

  static void print_head(const Subject& subject, const Roofs& roofs, const MemoryPlan& plan) {
    print(cat(roofs.text, subject.name, ": ", human_count(static_cast<double>(subject.model->parameters())),
              " parameters, ", human_bytes(static_cast<double>(subject.model->weight_bytes())),
              " of weights, there in ", fixed(subject.load_seconds, 2), " s\nkeys and values in ",
              llamita::name(plan.shape.kv_format.dtype), ": ", plan.kv_bytes_per_token, " bytes a token, ",
              human_bytes(static_cast<double>(plan.kv_bytes)), " for ",
              int64_t{plan.shape.kv_pages} * kPageTokens, " tokens\n"));
    flush_output();
  }

  static std::string to_table(const Subject& subject, const std::vector<Row>& rows) {
    std::string out =
        "| model | size | params | device | test | tokens/s | ms | achieved | of the roof |\n"
        "|---|---:|---:|---|---|---:|---:|---:|---:|\n";
    for (const Row& row : rows) {
      out += cat("| ", subject.name, " | ", human_bytes(static_cast<double>(subject.model->weight_bytes())),
                 " | ", human_count(static_cast<double>(subject.model->parameters())), " | ", row.device,
                 " | ", row.test, " | ", fixed(row.mean, 2), " ± ", fixed(row.deviation, 2), " | ",
                 fixed(row.milliseconds, 3), " | ", fixed(row.achieved / 1e9, 1),
                 row.decode ? " GB/s" : " GFLOP/s", " | ", fixed(100 * row.achieved / row.roof, 1), " % |\n");
    }
    return out;
  }

  Json to_json(const Subject& subject, const std::vector<Row>& rows) const {
    Json::Array list;
    for (const Row& row : rows) {
      Json::Array samples;
      for (const double rate : row.rates) samples.push_back(Json(rate));
      list.push_back(Json(Json::Object{{"test", Json(row.test)},
                                       {"device", Json(row.device)},
                                       {"threads", Json(int64_t{row.threads})},
                                       {"tokens", Json(int64_t{row.tokens})},
                                       {"depth", Json(int64_t{row.depth})},
                                       {"batch", Json(int64_t{row.batch})},
                                       {"tokens_per_second", Json(row.mean)},
                                       {"standard_deviation", Json(row.deviation)},
                                       {"samples", Json(std::move(samples))},
                                       {"milliseconds", Json(row.milliseconds)},
                                       {"unit", Json(std::string(row.decode ? "bytes/s" : "flops/s"))},
                                       {"achieved", Json(row.achieved)},
                                       {"roof", Json(row.roof)}}));
    }
    return Json(Json::Object{{"model", Json(subject.name)},
                             {"bytes", Json(subject.model->weight_bytes())},
                             {"parameters", Json(subject.model->parameters())},
                             {"load_seconds", Json(subject.load_seconds)},
                             {"repetitions", Json(int64_t{repetitions_})},
                             {"rows", Json(std::move(list))}});
  }

  std::string model_, shape_, save_, tokenizer_, sample_ = "none";
  std::string measured_;  // an option that says what to measure
  std::vector<int> prompts_ = {512}, generates_ = {128}, depths_ = {0}, batches_ = {1}, threads_;
  int repetitions_ = 5, batch_tokens_ = 0;
  bool json_ = false, trace_ = false;
  EngineConfig config_;
};

}  // namespace

std::unique_ptr<Subcommand> make_bench() { return std::make_unique<Bench>(); }

}  // namespace llamita::cli
