// bench_attention [WORD] [--json FILE | --turns]: the op `attention` on a GPU over a shuffled paged cache,
// whatever variant its table chooses (LLAMITA_KERNEL=attention=... forces one); sampled rows are checked
// against fp64. WORD: rows whose name contains it. --json: one object a row and line, besides the table. The
// first rows are the shapes of lessons/attention_peer.py, which times cuDNN and PyTorch's FlashAttention-2 on
// dense tensors; with --turns (both programs) scripts/bench_kernels.py has them measured in turns, on the
// same card as hot.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <memory>
#include <numeric>
#include <random>

#include "base/cat.h"
#include "bench/kernels/paged_check.h"
#include "hw/cuda/device_properties.h"
#include "hw/cuda/measure.h"
#include "lessons/attention_check.h"
#include "lessons/bench.h"
#include "llamita/error.h"
#include "ops/attention/attention.h"

namespace llamita::bench {
namespace {

using lessons::median;
using lessons::TimedGraph;

constexpr double kTurnWarmUp = 0.1, kTurnSeconds = 0.15;  // as in lessons/attention_peer.py

struct Case {
  const char* what;
  std::vector<int> q_len, kv_len;
  int heads, kv_heads, dim, window;
  bool causal = true;
};

std::vector<Case> cases() {
  std::vector<Case> list;
  for (const int dim : {64, 128})
    for (const int tokens : {2048, 4096, 8192, 16384}) {
      const std::vector<int> lengths(size_t(16384 / tokens), tokens);
      list.push_back({"prefill", lengths, lengths, 16, 16, dim, 0});
    }
  for (const int dim : {64, 128}) list.push_back({"full", {8192, 8192}, {8192, 8192}, 16, 16, dim, 0, false});
  for (const int dim : {96, 256}) list.push_back({"head dim", {8192, 8192}, {8192, 8192}, 16, 16, dim, 0});
  list.push_back({"prefill GQA 24/8", {4096}, {4096}, 24, 8, 128, 0});
  list.push_back({"prefill GQA 32/8", {2048, 2048, 2048, 2048}, {2048, 2048, 2048, 2048}, 32, 8, 64, 0});
  list.push_back({"ragged", {1, 77, 1500, 513, 2000, 64}, {900, 77, 4100, 513, 2000, 4096}, 32, 8, 128, 0});
  list.push_back({"window 1024", {8192}, {8192}, 32, 8, 128, 1024});
  list.push_back({"chunk 512 in 32k", {512}, {32768 + 512}, 8, 1, 128, 0});
  list.push_back({"decode 1 x 1k", {1}, {1024}, 24, 8, 128, 0});
  list.push_back({"decode 1 x 2k", {1}, {2048}, 24, 8, 128, 0});
  list.push_back({"decode 1 x 4k", {1}, {4096}, 24, 8, 128, 0});
  list.push_back({"decode 1 x 8k", {1}, {8192}, 24, 8, 128, 0});
  list.push_back({"decode 1 x 32k", {1}, {32768}, 32, 8, 128, 0});
  list.push_back({"decode 64 x 2k", std::vector<int>(64, 1), std::vector<int>(64, 2048), 24, 8, 128, 0});
  list.push_back({"decode 64 x 4k", std::vector<int>(64, 1), std::vector<int>(64, 4096), 32, 8, 128, 0});
  return list;
}

// One case's tensors on the card. Pages are shuffled; what no sequence uses is NaN.
class Problem {
 public:
  Problem(const Case& c, uint64_t seed, const cuda::Stream& stream) : case_(c), stream_(stream) {
    std::mt19937_64 random(seed);
    const size_t sequences = c.q_len.size();
    q_start_.push_back(0);
    for (const int length : c.q_len) q_start_.push_back(q_start_.back() + length);
    int pages = 0, max_blocks = 1;
    for (const int length : c.kv_len) {
      const int blocks = (length + kPageTokens - 1) / kPageTokens;
      pages += blocks;
      max_blocks = std::max(max_blocks, blocks);
    }
    pages_ = pages;
    max_blocks_ = max_blocks;
    std::vector<int32_t> order(static_cast<size_t>(pages));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random);
    table_.assign(sequences * size_t(max_blocks), -1);
    size_t next = 0;
    for (size_t b = 0; b < sequences; ++b)
      for (int i = 0; i < (c.kv_len[b] + kPageTokens - 1) / kPageTokens; ++i)
        table_[b * size_t(max_blocks) + size_t(i)] = order[next++];
    const size_t cache = size_t(pages) * size_t(c.kv_heads) * kPageTokens * size_t(c.dim);
    k_ = filled(cache, seed + 1);
    v_ = filled(cache, seed + 2);
    poison_tails();
    q_ = filled(size_t(tokens()) * size_t(c.heads) * size_t(c.dim), seed + 3);
    out_ = cuda::allocate_storage(q_.bytes(), 0);
    cuda::fill_async(out_.data(), 0xFF, out_.bytes(), stream);
    d_q_start_ = upload(q_start_);
    d_kv_len_ = upload(c.kv_len);
    d_table_ = upload(table_);
    plan_ = plan_attention(q_start_, c.kv_len);
    stream.synchronize();
  }

  int tokens() const { return q_start_.back(); }
  double flop() const {
    double pairs = 0;
    for (size_t b = 0; b < case_.q_len.size(); ++b)
      for (int i = 0; i < case_.q_len[b]; ++i) pairs += keys_of(b, i).second - keys_of(b, i).first;
    return 4 * pairs * case_.heads * case_.dim;
  }
  double kv_bytes() const {
    double keys = 0;
    for (size_t b = 0; b < case_.q_len.size(); ++b)
      keys += keys_of(b, case_.q_len[b] - 1).second - keys_of(b, 0).first;
    return keys * 4 * case_.kv_heads * case_.dim;
  }

  void run(Context& context) const {
    const Device device{DeviceKind::cuda, 0};
    const int64_t B = static_cast<int64_t>(case_.q_len.size());
    const auto cache = [&](const Storage& s) {
      return Tensor(s.data(), DType::bf16, {pages_, case_.kv_heads, kPageTokens, case_.dim}, device);
    };
    attention({.q = Tensor(q_.data(), DType::bf16, {tokens(), case_.heads, case_.dim}, device),
               .k_cache = cache(k_),
               .v_cache = cache(v_),
               .q_start = Tensor(d_q_start_.data(), DType::i32, {B + 1}, device),
               .kv_len = Tensor(d_kv_len_.data(), DType::i32, {B}, device),
               .block_table = Tensor(d_table_.data(), DType::i32, {B, max_blocks_}, device),
               .plan = &plan_,
               .scale = 1 / std::sqrt(static_cast<float>(case_.dim)),
               .window = case_.window,
               .causal = case_.causal,
               .out = Tensor(out_.data(), DType::bf16, {tokens(), case_.heads, case_.dim}, device)},
              context);
  }

  struct Error {
    double nmse = 0;
    std::string worst;  // row
  };
  // Of about 256 rows: the first and last of every sequence and some between.
  Error error() const {
    constexpr size_t kMostRows = 4096;
    const Storage sums = cuda::allocate_storage(2 * kMostRows * sizeof(double), 0);
    std::vector<std::string> rows;
    cuda::fill_async(sums.data(), 0, sums.bytes(), stream_);
    const auto longest = static_cast<size_t>(plan_.max_kv_len);
    const Storage weights = cuda::allocate_storage(longest * sizeof(double), 0);
    const auto at = [](const Storage& s) { return static_cast<const __nv_bfloat16*>(s.data()); };
    for (size_t b = 0; b < case_.q_len.size(); ++b) {
      const int step = std::max(1, case_.q_len[b] * static_cast<int>(case_.q_len.size()) / 128);
      for (int i = 0, n = 0; i < case_.q_len[b]; ++n) {
        const int head = static_cast<int>((size_t(n) * 7 + b) % size_t(case_.heads));
        const auto [begin, end] = keys_of(b, i);
        const int64_t row = (int64_t{q_start_[b] + i} * case_.heads + head) * case_.dim;
        judge_row({.q = at(q_) + row,
                   .k = at(k_),
                   .v = at(v_),
                   .pages = static_cast<const int32_t*>(d_table_.data()) + b * size_t(max_blocks_),
                   .out = at(out_) + row,
                   .kv_heads = case_.kv_heads,
                   .kv_head = head / (case_.heads / case_.kv_heads),
                   .dim = case_.dim,
                   .begin = begin,
                   .end = end,
                   .scale = 1 / std::sqrt(static_cast<float>(case_.dim)),
                   .weights = static_cast<double*>(weights.data())},
                  static_cast<double*>(sums.data()) + 2 * rows.size(), stream_.get());
        rows.push_back(cat("sequence ", b, ", token ", i, ", head ", head));
        if (rows.size() == kMostRows) break;
        if (i == case_.q_len[b] - 1) break;
        i = std::min(i + step, case_.q_len[b] - 1);
      }
    }
    std::vector<double> host(2 * rows.size());
    cuda::copy_async(host.data(), sums.data(), host.size() * sizeof(double), stream_);
    stream_.synchronize();
    double difference = 0, size = 0, worst = -1;
    Error error;
    for (size_t i = 0; i < rows.size(); ++i) {
      difference += host[2 * i];
      size += host[2 * i + 1];
      if (const double one = host[2 * i] / host[2 * i + 1]; one > worst) {
        worst = one;
        error.worst = cat(rows[i], ": ", one);
      }
    }
    error.nmse = difference / size;
    return error;
  }

 private:
  std::pair<int, int> keys_of(size_t b, int i) const {
    const int end = case_.causal ? case_.kv_len[b] - case_.q_len[b] + i + 1 : case_.kv_len[b];
    return {case_.window > 0 ? std::max(0, end - case_.window) : 0, end};
  }
  Storage filled(size_t elements, uint64_t seed) const {
    Storage storage = cuda::allocate_storage(elements * 2, 0);
    lessons::fill_uniform(static_cast<__nv_bfloat16*>(storage.data()), elements, seed, stream_);
    return storage;
  }
  // Rows of last pages behind their sequences' ends.
  void poison_tails() {
    for (size_t b = 0; b < case_.kv_len.size(); ++b) {
      const int used = case_.kv_len[b] % kPageTokens;
      if (used == 0) continue;
      const int64_t page = table_[b * size_t(max_blocks_) + size_t(case_.kv_len[b] / kPageTokens)];
      for (const Storage* cache : {&k_, &v_})
        for (int head = 0; head < case_.kv_heads; ++head) {
          const int64_t row = (page * case_.kv_heads + head) * kPageTokens + used;
          cuda::fill_async(static_cast<__nv_bfloat16*>(cache->data()) + row * case_.dim, 0xFF,
                           size_t(kPageTokens - used) * size_t(case_.dim) * 2, stream_);
        }
    }
  }
  Storage upload(const std::vector<int32_t>& values) const {
    Storage storage = cuda::allocate_storage(values.size() * sizeof(int32_t), 0);
    cuda::copy_async(storage.data(), values.data(), storage.bytes(), stream_);
    return storage;
  }

  Case case_;
  const cuda::Stream& stream_;
  std::vector<int32_t> q_start_, table_;
  int64_t pages_ = 0, max_blocks_ = 0;
  Storage q_, k_, v_, out_, d_q_start_, d_kv_len_, d_table_;
  AttentionPlan plan_;
};

struct Machine {
  cuda::DeviceProperties device = cuda::device_properties(0);
  cuda::Stream stream;
  double read_bytes_per_second = 0;
  std::FILE* json = nullptr;
};

// A case in as many sets of tensors as L2 cannot hold together: in turn each finds its keys cold, as a layer
// of a model does.
class TimedCase {
 public:
  TimedCase(const Case& c, const Machine& machine, uint64_t seed)
      : arena_(cuda::allocate_storage(size_t{512} << 20, 0), {DeviceKind::cuda, 0}),
        context_(machine.stream, arena_,
                 {.device = DeviceKind::cuda,
                  .activation = DType::bf16,
                  .device_index = 0,
                  .arch = machine.device.arch(),
                  .sm_count = machine.device.sm_count}) {
    problems_.push_back(std::make_unique<Problem>(c, seed, machine.stream));
    const auto sets = std::clamp(
        static_cast<int>(3.0 * static_cast<double>(machine.device.l2_bytes) / first().kv_bytes()), 2, 64);
    for (int i = 1; i < sets; ++i)
      problems_.push_back(std::make_unique<Problem>(c, seed + 7 * uint64_t(i), machine.stream));
    std::vector<OpRecord> records;
    context_.record_to(&records);
    first().run(context_);
    context_.record_to(nullptr);
    variant_ = records.empty() ? "?" : std::string(records.back().variant);
    const auto run = [&](int i) { problems_[size_t(i % sets)]->run(context_); };
    const TimedGraph once(machine.stream, sets, run);
    once.microseconds();
    const int rounds = std::clamp(static_cast<int>(4000 / once.microseconds()) / sets, 1, 64);
    graph_ = std::make_unique<TimedGraph>(machine.stream, rounds * sets, run);
  }

  const Problem& first() const { return *problems_[0]; }
  const std::string& variant() const { return variant_; }
  // The median of what is measured in `seconds` behind `warm_up` seconds of the same work.
  double microseconds(double warm_up, double seconds) const {
    std::vector<double> us;
    const auto start = std::chrono::steady_clock::now();
    for (double now = 0; now < warm_up + seconds || us.size() < 3;) {
      const double x = graph_->microseconds();
      now = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      if (now > warm_up) us.push_back(x);
    }
    return median(us);
  }

 private:
  std::vector<std::unique_ptr<Problem>> problems_;
  Arena arena_;
  Context context_;
  std::string variant_;
  std::unique_ptr<TimedGraph> graph_;
};

constexpr double kMostError = 1.2e-5;

bool run_case(const Case& c, const Machine& machine, uint64_t seed) {
  const TimedCase timed(c, machine, seed);
  const double time = timed.microseconds(0.15, 0.25);
  const Problem& first = timed.first();
  const Problem::Error checked = first.error();
  const double error = checked.nmse, roof = machine.read_bytes_per_second;
  const bool right = error < kMostError;
  const int longest = *std::max_element(c.kv_len.begin(), c.kv_len.end());
  const double tflops = first.flop() / time * 1e-6, gbs = first.kv_bytes() / time * 1e-3;
  std::printf(
      "%-18s q %5d kv %6d heads %2d/%d D %3d  %-17s %9.1f us %7.1f TFLOP/s %6.0f GB/s of KV %5.1f %% of "
      "reads  "
      "NMSE %.1e%s\n",
      c.what, first.tokens(), longest, c.heads, c.kv_heads, c.dim, timed.variant().c_str(), time, tflops, gbs,
      gbs * 1e11 / roof, error, right ? "" : cat("   WRONG, worst ", checked.worst).c_str());
  std::fflush(stdout);
  if (machine.json != nullptr) {
    std::fprintf(machine.json,
                 "{\"what\": \"%s\", \"tokens\": %d, \"kv\": %d, \"heads\": %d, \"kv_heads\": %d, "
                 "\"dim\": %d, \"variant\": \"%s\", \"us\": %.3f, \"tflops\": %.2f, \"kv_gbs\": %.1f, "
                 "\"read_roof_gbs\": %.1f, \"nmse\": %.3e, \"right\": %s}\n",
                 c.what, first.tokens(), longest, c.heads, c.kv_heads, c.dim, timed.variant().c_str(), time,
                 tflops, gbs, roof * 1e-9, error, right ? "true" : "false");
    std::fflush(machine.json);
  }
  return right;
}

// Prefill in turns with another program: a line `D T` prepares that row and answers `ready` or `wrong`, a
// line `go` times it for a moment and answers with microseconds.
int take_turns(const Machine& machine) {
  std::unique_ptr<TimedCase> timed;
  uint64_t seed = std::random_device{}();
  for (std::string line; std::getline(std::cin, line);) {
    int dim = 0, tokens = 0;
    if (line == "go" && timed != nullptr) {
      std::printf("%.3f\n", timed->microseconds(kTurnWarmUp, kTurnSeconds));
    } else if (std::sscanf(line.c_str(), "%d %d", &dim, &tokens) == 2) {
      timed.reset();
      for (const Case& c : cases())
        if (std::string(c.what) == "prefill" && c.dim == dim && c.kv_len[0] == tokens)
          timed = std::make_unique<TimedCase>(c, machine, seed += 101);
      if (timed == nullptr) throw Error(cat("there is no prefill of ", tokens, " tokens with D ", dim));
      std::printf("%s\n", timed->first().error().nmse < kMostError ? "ready" : "wrong");
    } else {
      throw Error(cat("--turns: expected `D T`, then `go`, came: ", line));
    }
    std::fflush(stdout);
  }
  return 0;
}

int run(const std::string& word, std::FILE* json, bool turns) {
  if (cuda::device_count() == 0) {
    std::printf("bench_attention: skipped, there is no NVIDIA GPU here\n");
    return 0;
  }
  Machine machine;
  if (turns) return take_turns(machine);
  machine.json = json;
  machine.read_bytes_per_second = cuda::measure_read_bandwidth(0);
  std::printf("read roof %.0f GB/s\n", machine.read_bytes_per_second * 1e-9);
  uint64_t seed = std::random_device{}();
  int bad = 0;
  for (const Case& c : cases())
    if (std::string(c.what).find(word) != std::string::npos) bad += run_case(c, machine, seed += 101) ? 0 : 1;
  return bad == 0 ? 0 : 1;
}

}  // namespace
}  // namespace llamita::bench

int main(int argc, char** argv) {
  std::string word, json_path;
  bool turns = false;
  for (int i = 1; i < argc; ++i) {
    if (std::string(argv[i]) == "--turns") {
      turns = true;
    } else if (std::string(argv[i]) == "--json" && i + 1 < argc) {
      json_path = argv[++i];
    } else if (argv[i][0] != '-') {
      word = argv[i];
    } else {
      std::fprintf(stderr, "bench_attention [WORD] [--json FILE | --turns]\n");
      return 2;
    }
  }
  const auto close = [](std::FILE* file) { return file == nullptr ? 0 : std::fclose(file); };
  const std::unique_ptr<std::FILE, decltype(close)> json(
      json_path.empty() ? nullptr : std::fopen(json_path.c_str(), "w"), close);
  if (!json_path.empty() && json == nullptr) {
    std::fprintf(stderr, "bench_attention: cannot write %s\n", json_path.c_str());
    return 1;
  }
  try {
    return llamita::bench::run(word, json.get(), turns);
  } catch (const llamita::Error& error) {
    std::printf("bench_attention: %s\n", error.what());
    return 1;
  }
}
