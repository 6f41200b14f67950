// bench_sampling [--rows R,R..] [--vocab V,V..] [--json FILE]: the op `device_sampling` on a GPU:
// microseconds of a launch in a graph of many, as a captured step ends with one, over logits that L2 has
// forgotten. Every token is first held against the CPU's choice for the same logits.
//
// Logits are made up in two ways. peaked, as trained models give them: noise, and 64 tokens that stand out
// with probabilities like Zipf's law (a share of rank^-1 in one row of four, up to rank^-4). flat, as
// untrained weights give them: noise alone, where top-p leaves a good part of the vocabulary.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>

#include "hw/cuda/device_properties.h"
#include "hw/cuda/memory.h"
#include "lessons/bench.h"
#include "llamita/error.h"
#include "ops/sampling/device_sampling.h"

namespace llamita::bench {
namespace {

using lessons::median;
using lessons::TimedGraph;

constexpr int kDistinctRows = 8;  // of logits; rows of a launch differ in their random numbers too
constexpr Device kDevice{DeviceKind::cuda, 0};

struct Settings {
  const char* name;
  SamplingRow row;
};
std::vector<Settings> all_settings() {
  return {{"greedy", {.temperature = 0}},
          {"chat", {.temperature = 0.7f, .top_p = 0.95f}},
          {"top-k 40", {.temperature = 0.7f, .top_k = 40}},
          {"min-p 0.05", {.temperature = 0.7f, .min_p = 0.05f}},
          {"penalties",
           {.temperature = 0.7f,
            .top_p = 0.95f,
            .repetition_penalty = 1.1f,
            .frequency_penalty = 0.1f,
            .presence_penalty = 0.1f}},
          {"no filter", {.temperature = 1}}};
}

struct Options {
  std::vector<int> rows{1, 12, 64, 256}, vocabularies{128256, 151936};
  std::string json;
};

std::vector<float> made_up_logits(int vocab, bool peaked) {
  std::mt19937 random(7);
  std::normal_distribution<float> noise(0, peaked ? 2.2f : 1.0f);
  std::vector<float> logits(size_t{kDistinctRows} * static_cast<size_t>(vocab));
  for (float& logit : logits) logit = noise(random);
  for (size_t row = 0; peaked && row < kDistinctRows; ++row) {
    const float exponent = 0.7f * static_cast<float>(1 + row % 4);  // at a temperature of 0.7
    for (int rank = 1; rank <= 64; ++rank)
      logits[row * static_cast<size_t>(vocab) + random() % static_cast<size_t>(vocab)] =
          22 - exponent * std::log(static_cast<float>(rank));
  }
  return logits;
}

// Sets of logits on the card, enough that L2 has forgotten one before it is used again.
class Logits {
 public:
  Logits(int rows, int vocab, bool peaked, size_t l2_bytes, const cuda::Stream& stream)
      : rows_(rows), vocab_(vocab), host_(made_up_logits(vocab, peaked)), stream_(stream) {
    const size_t set_bytes = static_cast<size_t>(rows) * row_bytes();
    sets_ = std::clamp<size_t>(5 * l2_bytes / 2 / set_bytes + 1, 2, 256);
    memory_ = cuda::allocate_storage(sets_ * set_bytes, 0);
    fill();
  }
  void fill() const {
    for (size_t row = 0; row < sets_ * static_cast<size_t>(rows_); ++row)
      cuda::copy_async(static_cast<std::byte*>(memory_.data()) + row * row_bytes(), host_row(row).data(),
                       row_bytes(), stream_);
    stream_.synchronize();
  }
  size_t sets() const { return sets_; }
  Tensor set(size_t i) const {
    auto* at = static_cast<float*>(memory_.data()) + i % sets_ * static_cast<size_t>(rows_ * vocab_);
    return Tensor(at, DType::f32, {rows_, vocab_}, kDevice);
  }
  std::span<const float> host_row(size_t row) const {
    return {host_.data() + row % kDistinctRows * static_cast<size_t>(vocab_), static_cast<size_t>(vocab_)};
  }

 private:
  size_t row_bytes() const { return static_cast<size_t>(vocab_) * sizeof(float); }

  int64_t rows_, vocab_;
  size_t sets_;
  std::vector<float> host_;
  Storage memory_;
  const cuda::Stream& stream_;
};

class SamplingBench {
 public:
  SamplingBench() : device_(cuda::device_properties(0)) {
    caps_ = {.device = DeviceKind::cuda,
             .activation = DType::bf16,
             .device_index = 0,
             .arch = device_.arch(),
             .sm_count = device_.sm_count};
    std::printf("%s: microseconds of a launch\n", device_.name.c_str());
  }

  bool run(int rows, int vocab, bool peaked, std::FILE* json) {
    const Logits logits(rows, vocab, peaked, device_.l2_bytes, stream_);
    std::printf("V %d, %3d rows, %s:", vocab, rows, peaked ? "peaked" : "flat  ");
    bool all_right = true;
    for (const Settings& settings : all_settings()) {
      const bool changes = settings.row.repetition_penalty != 1.0f;
      const Launch launch(settings.row, rows, vocab, stream_);
      Arena arena(cuda::allocate_storage(size_t{64} << 20, 0), kDevice);
      Context context(stream_, arena, caps_);
      device_sampling(launch.args(logits.set(0)), context);
      const bool right = launch.tokens(stream_) == expected(launch, logits, vocab);
      const double us = time(launch, logits, context);
      if (changes) logits.fill();
      std::printf("  %s %.1f%s", settings.name, us, right ? "" : " WRONG");
      std::fflush(stdout);
      if (json != nullptr)
        std::fprintf(json,
                     "{\"vocab\": %d, \"rows\": %d, \"logits\": \"%s\", \"settings\": \"%s\", \"us\": %.3f, "
                     "\"right\": %s}\n",
                     vocab, rows, peaked ? "peaked" : "flat", settings.name, us, right ? "true" : "false");
      all_right = all_right && right;
    }
    std::printf("\n");
    return all_right;
  }

 private:
  // Parameters and results of a launch, as a step has them.
  class Launch {
   public:
    Launch(const SamplingRow& like, int rows, int vocab, const cuda::Stream& stream)
        : rows_(static_cast<size_t>(rows), like),
          tokens_(cuda::allocate_storage(sizeof(int32_t) * rows_.size(), 0)),
          copies_(cuda::allocate_pinned(sizeof(int32_t) * rows_.size())) {
      if (like.repetition_penalty != 1.0f)
        for (int i = 0; i < 200; ++i) seen_.push_back({i * 631 % vocab, i % 5});
      DeviceSamplingRows upload;
      for (size_t r = 0; r < rows_.size(); ++r) {
        rows_[r].seed = 11;
        rows_[r].position = r;
        rows_[r].seen = seen_;
        upload.add(rows_[r]);
        upload.rows.back().copy = static_cast<int32_t*>(copies_.data()) + r;
      }
      on_card_ = to_card(upload.rows, stream);
      if (!upload.entries.empty()) entries_ = to_card(upload.entries, stream);
      stream.synchronize();
    }
    DeviceSamplingArgs args(const Tensor& logits) const {
      const auto rows = static_cast<int64_t>(rows_.size());
      DeviceSamplingArgs args;
      args.logits = logits;
      args.vocab_limit = static_cast<int32_t>(logits.dim(1));
      args.rows = Tensor(on_card_.data(), DType::u8, {rows, sizeof(DeviceSamplingRow)}, kDevice);
      if (entries_.bytes() > 0) {
        const auto entries = static_cast<int64_t>(entries_.bytes() / sizeof(DeviceTokenEntry));
        args.entries = Tensor(entries_.data(), DType::u8, {entries, sizeof(DeviceTokenEntry)}, kDevice);
      }
      args.tokens = Tensor(tokens_.data(), DType::i32, {rows}, kDevice);
      return args;
    }
    std::span<const SamplingRow> rows() const { return rows_; }
    std::vector<int32_t> tokens(const cuda::Stream& stream) const {
      std::vector<int32_t> tokens(rows_.size());
      cuda::copy_async(tokens.data(), tokens_.data(), tokens.size() * sizeof(int32_t), stream);
      stream.synchronize();
      return tokens;
    }

   private:
    template <class T>
    static Storage to_card(const std::vector<T>& values, const cuda::Stream& stream) {
      Storage card = cuda::allocate_storage(values.size() * sizeof(T), 0);
      cuda::copy_async(card.data(), values.data(), values.size() * sizeof(T), stream);
      stream.synchronize();
      return card;
    }

    std::vector<SamplingRow> rows_;
    std::vector<SeenToken> seen_;
    Storage tokens_, copies_, on_card_, entries_;
  };

  // What the CPU chooses.
  std::vector<int32_t> expected(const Launch& launch, const Logits& logits, int vocab) {
    const auto rows = static_cast<int64_t>(launch.rows().size());
    std::vector<float> matrix;
    for (int64_t r = 0; r < rows; ++r) {
      const auto row = logits.host_row(static_cast<size_t>(r));
      matrix.insert(matrix.end(), row.begin(), row.end());
    }
    std::vector<SampledToken> out(launch.rows().size());
    const Caps host{.threads = pool_.threads()};
    const SamplingArgs args{Tensor::of(matrix.data(), {rows, vocab}), vocab, launch.rows(), out};
    Arena arena(size_t{1} << 30);
    Context context(pool_, arena, host);
    sampling(args, context);
    std::vector<int32_t> tokens;
    for (const SampledToken& each : out) tokens.push_back(each.token);
    return tokens;
  }

  double time(const Launch& launch, const Logits& logits, Context& context) const {
    const int launches = static_cast<int>(std::max<size_t>(logits.sets(), 16));
    const TimedGraph graph(stream_, launches, [&](int i) {
      device_sampling(launch.args(logits.set(static_cast<size_t>(i))), context);
    });
    std::vector<double> us;
    for (int i = 0; i < 12; ++i) {
      const double one = graph.microseconds();
      if (i >= 3) us.push_back(one);
    }
    return median(us);
  }

  cuda::DeviceProperties device_;
  Caps caps_;
  cuda::Stream stream_;
  ThreadPool pool_;
};

std::vector<int> integers(const char* text) {
  std::vector<int> values;
  for (char* end = nullptr; *text != 0; text = *end == ',' ? end + 1 : end) {
    values.push_back(static_cast<int>(std::strtol(text, &end, 10)));
    if (end == text || (*end != ',' && *end != 0) || values.back() < 1) return {};
  }
  return values;
}

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string word = argv[i];
    if (word == "--rows") {
      options.rows = integers(argv[i + 1]);
    } else if (word == "--vocab") {
      options.vocabularies = integers(argv[i + 1]);
    } else if (word == "--json") {
      options.json = argv[i + 1];
    } else {
      return false;
    }
  }
  return argc % 2 == 1 && !options.rows.empty() && !options.vocabularies.empty();
}

int run(const Options& options) {
  if (cuda::device_count() == 0) {
    std::printf("bench_sampling: skipped, there is no NVIDIA GPU here\n");
    return 0;
  }
  std::FILE* json = options.json.empty() ? nullptr : std::fopen(options.json.c_str(), "w");
  if (!options.json.empty() && json == nullptr) throw Error("cannot write " + options.json);
  SamplingBench bench;
  bool right = true;
  for (const int vocab : options.vocabularies)
    for (const bool peaked : {true, false})
      for (const int rows : options.rows) right = bench.run(rows, vocab, peaked, json) && right;
  if (json != nullptr) std::fclose(json);
  return right ? 0 : 1;
}

}  // namespace
}  // namespace llamita::bench

int main(int argc, char** argv) {
  llamita::bench::Options options;
  if (!llamita::bench::parse(argc, argv, options)) {
    std::fprintf(stderr, "bench_sampling [--rows R,R..] [--vocab V,V..] [--json FILE]\n");
    return 2;
  }
  try {
    return llamita::bench::run(options);
  } catch (const llamita::Error& error) {
    std::printf("bench_sampling: %s\n", error.what());
    return 1;
  }
}
