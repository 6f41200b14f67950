// bench_gemm [--shapes grid|skinny|ladder|tiles|cuts] [--tokens M,M..] [--epilogue plain|f32_add|gated|gelu]
// [--seconds S] [--json FILE]: the op `linear` on a GPU, whatever variant its table chooses, beside the best
// algorithm of cuBLASLt on the same buffers in the same run. bf16 in and out; checked against fp64. The
// matrix roof is what cuBLASLt reaches on 8192 x 8192 x 8192, measured first. tiles, cuts: every tile of both
// schedules of the Hopper GEMM, every cut that skinny_sm90 could take, beside what its model expects; *: what
// the tables take. --epilogue: of tiles, on the layers that have it: fp32 added to what is there, gate and up
// with SiLU, GELU; cuBLASLt does the plain product of the same size. --seconds: how long a row of the others
// is timed, 0.4 if not told; a third of it warms up. --json: one object a row and line, besides the table.
#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <random>

#include "bench/kernels/gemm_shapes.h"
#include "hw/cuda/device_properties.h"
#include "lessons/bench.h"
#include "lessons/cublaslt.h"
#include "lessons/gemm_check.h"
#include "llamita/error.h"
#include "ops/linear/gemm_sm90.h"
#include "ops/linear/linear.h"
#include "ops/linear/skinny_sm90.h"

namespace llamita::bench {
namespace {

using lessons::Gemm;
using lessons::median;
using lessons::TimedGraph;

// A problem's matrices, in several sets so that L2 has forgotten one before it is used again. c has room for
// fp32 where asked.
struct Buffers {
  std::vector<Storage> a, b, c;
  Shape shape;

  Buffers(const Shape& s, size_t sets, uint64_t seed, const cuda::Stream& stream, size_t out_bytes = 2)
      : shape(s) {
    const auto matrix = [&](size_t elements, uint64_t with, std::vector<Storage>& into) {
      into.push_back(cuda::allocate_storage(elements * 2, 0));
      auto* data = static_cast<__nv_bfloat16*>(into.back().data());
      if (with != 0)
        lessons::fill_random(data, elements, with, stream);
      else
        cuda::fill_async(data, 0xFF, elements * 2, stream);
    };
    for (size_t i = 0; i < sets; ++i) {
      matrix(size_t(s.m) * s.k, seed + 2 * i + 1, a);
      matrix(size_t(s.n) * s.k, seed + 2 * i + 2, b);
      matrix(size_t(s.m) * s.n * out_bytes / 2, 0, c);
    }
    stream.synchronize();
  }
  Gemm problem(size_t i) const {
    const auto data = [&](const Storage& s) { return static_cast<__nv_bfloat16*>(s.data()); };
    const size_t set = i % a.size();
    return {data(a[set]), data(b[set]), data(c[set]), shape.m, shape.n, shape.k};
  }
};

class GemmBench {
 public:
  explicit GemmBench(double seconds)
      : device_(cuda::device_properties(0)), seconds_(seconds), seed_(std::random_device{}()) {
    caps_ = {.device = DeviceKind::cuda,
             .activation = DType::bf16,
             .device_index = 0,
             .arch = device_.arch(),
             .sm_count = device_.sm_count};
    const char* why = "";
    peer_ = lessons::CublasLt::load(&why);
    if (peer_ == nullptr) std::printf("no cuBLASLt column: %s\n", why);
    if (peer_ != nullptr) measure_roof();
  }

  // Peer's time / own time; 0 without a peer, -1 for a wrong result.
  double run(const Shape& shape, std::FILE* json) {
    const double flop = 2.0 * shape.m * shape.n * shape.k;
    const size_t sets = sets_of(shape);
    const Buffers buffers(shape, sets, seed_ += 101, stream_);
    Arena arena(cuda::allocate_storage(size_t{64} << 20, 0), {DeviceKind::cuda, 0});
    Context context(stream_, arena, caps_);
    std::vector<OpRecord> records;
    const auto own_run = [&](int i) { multiply(buffers, static_cast<size_t>(i) % sets, context); };
    context.record_to(&records);
    own_run(0);
    context.record_to(nullptr);
    const std::string variant = records.empty() ? "?" : std::string(records.back().variant);
    const bool right = lessons::compare_with_fp64(buffers.problem(0), stream_).ok;

    const TimedGraph once(stream_, static_cast<int>(sets), own_run);
    once.microseconds();
    const int launches =
        std::clamp(static_cast<int>(3000 / once.microseconds()), static_cast<int>(sets), 256);
    int algorithm = best_algorithm(buffers, launches);
    const TimedGraph own(stream_, launches, own_run);
    std::unique_ptr<TimedGraph> peer;
    if (algorithm >= 0)
      peer = std::make_unique<TimedGraph>(
          stream_, launches, [&](int i) { peer_->run(buffers.problem(size_t(i)), algorithm, stream_); });
    std::vector<double> own_us, peer_us;  // in alternation: the same clocks and temperature
    const auto start = std::chrono::steady_clock::now();
    for (double seconds = 0; seconds < seconds_ || own_us.size() < 5;) {
      const double x = own.microseconds(), y = peer ? peer->microseconds() : 0;
      seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      if (seconds > seconds_ / 3) own_us.push_back(x), peer_us.push_back(y);
    }
    const double us = median(own_us), peer_median = median(peer_us);
    const double weights = 2.0 * shape.n * shape.k;
    const double tflops = flop / us * 1e-6, gbs = weights / us * 1e-3;
    std::printf("%5d x %5d x %5d  %-16s %8.1f us %7.1f TFLOP/s %5.0f GB/s", shape.m, shape.n, shape.k,
                variant.c_str(), us, tflops, gbs);
    if (peer)
      std::printf(" %5.1f %% of the roof   cuBLASLt %8.1f us   x %.3f", 100 * tflops / roof_tflops_,
                  peer_median, peer_median / us);
    std::printf("%s\n", right ? "" : "   WRONG");
    std::fflush(stdout);
    if (json != nullptr)
      std::fprintf(json,
                   "{\"m\": %d, \"n\": %d, \"k\": %d, \"variant\": \"%s\", \"us\": %.3f, \"tflops\": %.2f, "
                   "\"weight_gbs\": %.1f, \"roof_tflops\": %.1f, \"peer_us\": %.3f, \"right\": %s}\n",
                   shape.m, shape.n, shape.k, variant.c_str(), us, tflops, gbs, roof_tflops_, peer_median,
                   right ? "true" : "false");
    return right ? peer_median / us : -1;
  }

  // Every tile of both schedules, beside what the model expects.
  bool run_tiles(const Shape& shape, Epilogue epilogue) {
    const size_t out_bytes = epilogue == Epilogue::f32_add ? 4 : 2;
    const Buffers buffers(shape, sets_of(shape), seed_ += 101, stream_, out_bytes);
    const GemmSm90 problem = hopper_problem(buffers.problem(0), epilogue);
    const GemmShape of = gemm_sm90_shape(problem, caps_);
    // The row of the ops' tables that they would take, and its tile.
    const auto expected_of = [&](GemmSchedule schedule) { return gemm_sm90_us(problem, schedule, caps_); };
    const bool in_turns = expected_of(GemmSchedule::ping_pong) < expected_of(GemmSchedule::cooperative);
    const GemmTile chosen =
        best_gemm_tile(of, in_turns ? GemmSchedule::ping_pong : GemmSchedule::cooperative);
    std::vector<uint8_t> first;
    std::vector<Choice> choices;
    for (const GemmTile tile : gemm_tiles()) {
      // The model is not so wrong that a quarter more could be the best of a schedule.
      const double expected = gemm_tile_us(of, tile);
      const double best = gemm_tile_us(of, best_gemm_tile(of, tile.schedule));
      if (!gemm_tile_fits(of, tile) || expected > 1.25 * best) continue;
      const bool turns = tile.schedule == GemmSchedule::ping_pong;
      choices.push_back({.name = cat(tile.height, "x", tile.width, "/", tile.splits, "/", tile.rows,
                                     turns ? " ping-pong" : ""),
                         .chosen = tile == chosen,
                         .expected_us = expected,
                         .run =
                             [&, tile](size_t set, Context& context) {
                               gemm_sm90(hopper_problem(buffers.problem(set), epilogue), tile, context);
                             },
                         .check =
                             [&, epilogue] {
                               if (epilogue == Epilogue::plain && shape.m <= 512) return exact(buffers);
                               return agrees(problem, first);
                             }});
    }
    return compare(buffers, choices);
  }

  // Every cut that skinny_sm90 could take: rows of a tile / parts of K.
  bool run_cuts(const Shape& shape) {
    const Buffers buffers(shape, sets_of(shape), seed_ += 101, stream_);
    const SkinnyPlan chosen = skinny_sm90_plan(shape.m, shape.n, shape.k, caps_);
    std::vector<Choice> choices;
    for (const SkinnyPlan& plan : skinny_sm90_plans(shape.m, shape.n, shape.k, caps_))
      choices.push_back({.name = cat(plan.tile_rows, "/", plan.split),
                         .chosen = plan.tile_rows == chosen.tile_rows && plan.split == chosen.split,
                         .expected_us = skinny_sm90_us(skinny_problem(buffers.problem(0)), caps_),
                         .run =
                             [&, plan](size_t set, Context& context) {
                               skinny_sm90(skinny_problem(buffers.problem(set)), plan, context);
                             },
                         .check = [&] { return exact(buffers); }});
    return compare(buffers, choices);
  }

 private:
  struct Choice {
    std::string name;
    bool chosen;
    double expected_us;
    std::function<void(size_t set, Context& context)> run;
    std::function<bool()> check;  // what run() left in set 0
    bool right = false;
    std::unique_ptr<TimedGraph> graph{};
    std::vector<double> us{};
  };

  // Checks and times the choices and cuBLASLt in turn, quickest first in the line.
  bool compare(const Buffers& buffers, std::vector<Choice>& choices) {
    const Shape& shape = buffers.shape;
    Arena arena(cuda::allocate_storage(size_t{64} << 20, 0), {DeviceKind::cuda, 0});
    Context context(stream_, arena, caps_);
    const auto launches = [&](double us) {
      return std::clamp(static_cast<int>(1500 / us), static_cast<int>(buffers.a.size()), 256);
    };
    double expected_us = choices.front().expected_us;
    for (Choice& choice : choices) {
      // What is added to needs numbers, what is stored NaN: bytes that no sum gives.
      cuda::fill_async(buffers.c[0].data(), buffers.c[0].bytes() > size_t(shape.m) * shape.n * 2 ? 0 : 0xFF,
                       buffers.c[0].bytes(), stream_);
      choice.run(0, context);
      choice.right = choice.check();
      choice.graph = std::make_unique<TimedGraph>(stream_, launches(choice.expected_us), [&](int i) {
        choice.run(static_cast<size_t>(i) % buffers.a.size(), context);
      });
      if (choice.chosen) expected_us = choice.expected_us;
    }
    std::unique_ptr<TimedGraph> peer;
    std::vector<double> peer_us;
    if (const int algorithm = best_algorithm(buffers, launches(expected_us)); algorithm >= 0)
      peer = std::make_unique<TimedGraph>(stream_, launches(expected_us), [&](int i) {
        peer_->run(buffers.problem(size_t(i)), algorithm, stream_);
      });
    // In turn, and long enough for the power limit to bind: the clocks that a busy card has.
    const auto start = std::chrono::steady_clock::now();
    const double warm = 0.1, end = warm + 0.02 * static_cast<double>(choices.size() + 1);
    for (double seconds = 0; seconds < end || choices[0].us.size() < 3;) {
      for (Choice& choice : choices) {
        const double us = choice.graph->microseconds();
        if (seconds > warm) choice.us.push_back(us);
      }
      if (const double us = peer ? peer->microseconds() : 0; seconds > warm) peer_us.push_back(us);
      seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }
    std::sort(choices.begin(), choices.end(),
              [](const Choice& a, const Choice& b) { return median(a.us) < median(b.us); });
    std::printf("%5d x %5d x %5d ", shape.m, shape.n, shape.k);
    bool good = true;
    const double best_us = median(choices.front().us);
    double chosen_us = 0;
    for (const Choice& choice : choices) {
      const double us = median(choice.us);
      good = good && choice.right;
      if (choice.chosen) chosen_us = us;
      std::printf(" %s%s %.1f (%.1f)%s", choice.chosen ? "*" : "", choice.name.c_str(), us,
                  choice.expected_us, choice.right ? "" : " WRONG");
    }
    std::printf("   chosen / best %.3f", chosen_us / best_us);
    if (peer)
      std::printf("   cuBLASLt %.1f, chosen x %.3f, best x %.3f", median(peer_us),
                  median(peer_us) / chosen_us, median(peer_us) / best_us);
    std::printf("\n");
    std::fflush(stdout);
    return good;
  }

  void measure_roof() {
    const Shape shape{8192, 8192, 8192};
    const Buffers buffers(shape, 2, seed_ += 101, stream_);
    const int algorithm = best_algorithm(buffers, 2);
    if (algorithm < 0) return;
    const TimedGraph graph(stream_, 4,
                           [&](int i) { peer_->run(buffers.problem(size_t(i)), algorithm, stream_); });
    std::vector<double> us;
    for (int i = 0; i < 25; ++i) us.push_back(graph.microseconds());
    roof_tflops_ = 2.0 * shape.m * shape.n * shape.k / median(us) * 1e-6;
    std::printf("matrix roof %.0f TFLOP/s (cuBLASLt, 8192 x 8192 x 8192)\n", roof_tflops_);
  }

  size_t sets_of(const Shape& shape) const {
    const size_t set_bytes =
        2 * (size_t(shape.m) * shape.k + size_t(shape.n) * shape.k + size_t(shape.m) * shape.n);
    return std::clamp<size_t>(5 * device_.l2_bytes / 2 / set_bytes + 1, 2, 32);
  }

  // Beyond 512 tokens the sums in fp64 take too long.
  bool exact(const Buffers& buffers) const {
    return buffers.shape.m > 512 || lessons::compare_with_fp64(buffers.problem(0), stream_).ok;
  }

  // Whether every tile's outputs are the first one's, up to their rounding: tests hold each tile against a
  // reference, this the full size against the other tiles. Beyond 16 MiB the first and the last 128 rows:
  // the host would take longer for all than the card.
  bool agrees(const GemmSm90& g, std::vector<uint8_t>& first) {
    const bool f32 = g.kind != GemmSm90::Out::element;
    const size_t row_bytes = size_t(g.N) * (f32 ? 4 : 2), bytes = row_bytes * size_t(g.M);
    const size_t ends = bytes > size_t{16} << 20 ? std::min(128 * row_bytes, bytes / 2) : bytes / 2;
    const auto* out = static_cast<const uint8_t*>(g.out);
    std::vector<uint8_t> now(2 * ends);
    cuda::copy_async(now.data(), out, ends, stream_);
    cuda::copy_async(now.data() + ends, out + bytes - ends, ends, stream_);
    stream_.synchronize();
    if (now == first) return true;
    if (first.empty()) first = now;
    double difference = 0, norm = 0;
    const size_t size = f32 ? 4 : 2;
    for (size_t i = 0; i < now.size(); i += size) {
      const auto value = [&](const std::vector<uint8_t>& from) {
        uint32_t bits = 0;
        std::memcpy(reinterpret_cast<uint8_t*>(&bits) + 4 - size, from.data() + i, size);
        return static_cast<double>(std::bit_cast<float>(bits));
      };
      const double x = value(now), y = value(first);
      difference += (x - y) * (x - y), norm += y * y;
    }
    return norm > 0 && difference <= (f32 ? 1e-10 : 1e-5) * norm;  // false for NaN
  }

  static GemmSm90 hopper_problem(const Gemm& p, Epilogue epilogue) {
    GemmSm90 g{};
    g.a = p.a, g.b = p.b, g.out = p.c;
    g.element = DType::bf16;
    g.M = p.m, g.N = p.n, g.K = p.k;
    g.a_stride = p.k, g.out_stride = p.n;
    g.kind = epilogue == Epilogue::f32_add ? GemmSm90::Out::f32_add : GemmSm90::Out::element;
    if (epilogue == Epilogue::gelu) g.activation = Activation::gelu_tanh;
    if (epilogue == Epilogue::gated) {
      g.N = p.n / 2, g.out_stride = p.n / 2;
      g.b_up = p.b + size_t(p.n / 2) * p.k;
      g.activation = Activation::silu;
    }
    return g;
  }

  static SkinnySm90 skinny_problem(const Gemm& p) {
    SkinnySm90 g{};
    g.x = p.a, g.w = p.b, g.out = p.c;
    g.element = g.out_dtype = DType::bf16;
    g.M = p.m, g.N = p.n, g.K = p.k;
    g.x_stride = p.k, g.out_stride = p.n;
    return g;
  }

  void multiply(const Buffers& buffers, size_t set, Context& context) {
    const Shape& s = buffers.shape;
    const Device device{DeviceKind::cuda, 0};
    const quant::Weight weight{.cols = s.k, .parts = {{"w", DType::bf16, s.n, buffers.b[set]}}};
    linear({.x = Tensor(buffers.a[set].data(), DType::bf16, {s.m, s.k}, device),
            .weight = &weight,
            .bias = {},
            .residual = {},
            .out = Tensor(buffers.c[set].data(), DType::bf16, {s.m, s.n}, device)},
           context);
  }

  int best_algorithm(const Buffers& buffers, int launches) {
    int best = -1;
    double best_us = 0;
    const int proposals = peer_ == nullptr ? 0 : peer_->propose(buffers.problem(0));
    for (int i = 0; i < proposals; ++i) {
      try {
        const TimedGraph graph(stream_, launches,
                               [&](int run) { peer_->run(buffers.problem(size_t(run)), i, stream_); });
        graph.microseconds();
        const double us = median({graph.microseconds(), graph.microseconds(), graph.microseconds()});
        if (best < 0 || us < best_us) best = i, best_us = us;
      } catch (const Error&) {  // a proposal that the library itself refuses is none
      }
    }
    return best;
  }

  cuda::DeviceProperties device_;
  Caps caps_;
  cuda::Stream stream_;
  std::unique_ptr<lessons::CublasLt> peer_;
  double roof_tflops_ = 0;
  double seconds_;  // of a row
  uint64_t seed_;
};

int run(const std::string& which, const std::vector<int>& tokens, Epilogue epilogue, double seconds,
        std::FILE* json) {
  if (cuda::device_count() == 0) {
    std::printf("bench_gemm: skipped, there is no NVIDIA GPU here\n");
    return 0;
  }
  const std::vector<Shape> shapes = which == "skinny" || which == "cuts" ? skinny_shapes(tokens)
                                    : which == "ladder"                  ? ladder_shapes()
                                                                         : tile_shapes(epilogue, tokens);
  GemmBench bench(seconds);
  int bad = 0;
  if (which == "tiles" || which == "cuts") {
    for (const Shape& shape : shapes)
      if (!(which == "tiles" ? bench.run_tiles(shape, epilogue) : bench.run_cuts(shape))) ++bad;
    return bad == 0 ? 0 : 1;
  }
  double log_sum = 0;
  int count = 0;
  for (const Shape& shape : shapes) {
    const double ratio = bench.run(shape, json);
    if (ratio < 0) ++bad;
    if (ratio > 0) log_sum += std::log(ratio), ++count;
  }
  if (count > 0)
    std::printf("geometric mean over %d shapes: x %.3f of cuBLASLt\n", count, std::exp(log_sum / count));
  return bad == 0 ? 0 : 1;
}

// "64,128": numbers above zero.
bool parse_numbers(const char* text, std::vector<int>& numbers) {
  for (char* end = nullptr; *text != 0; text = *end == ',' ? end + 1 : end) {
    const long number = std::strtol(text, &end, 10);
    if (end == text || number <= 0 || (*end != 0 && *end != ',')) return false;
    numbers.push_back(static_cast<int>(number));
  }
  return !numbers.empty();
}

bool parse_epilogue(const char* text, Epilogue& epilogue) {
  const auto* const found = std::find_if(std::begin(kEpilogues), std::end(kEpilogues),
                                         [&](const char* name) { return std::strcmp(name, text) == 0; });
  epilogue = static_cast<Epilogue>(found - std::begin(kEpilogues));
  return found != std::end(kEpilogues);
}

// A time from 0.01 to 60 s.
bool parse_seconds(const char* text, double& seconds) {
  char* end = nullptr;
  seconds = std::strtod(text, &end);
  return end != text && *end == 0 && seconds >= 0.01 && seconds <= 60;
}

}  // namespace
}  // namespace llamita::bench

int main(int argc, char** argv) {
  std::string shapes = "grid", json_path;
  std::vector<int> tokens;
  double seconds = 0.4;
  llamita::bench::Epilogue epilogue = llamita::bench::Epilogue::plain;
  bool good = argc % 2 == 1;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], "--shapes") == 0)
      shapes = argv[i + 1];
    else if (std::strcmp(argv[i], "--json") == 0)
      json_path = argv[i + 1];
    else if (std::strcmp(argv[i], "--tokens") == 0)
      good = llamita::bench::parse_numbers(argv[i + 1], tokens) && good;
    else if (std::strcmp(argv[i], "--epilogue") == 0)
      good = llamita::bench::parse_epilogue(argv[i + 1], epilogue) && good;
    else if (std::strcmp(argv[i], "--seconds") == 0)
      good = llamita::bench::parse_seconds(argv[i + 1], seconds) && good;
    else
      good = false;
  }
  good = good && (shapes == "grid" || shapes == "skinny" || shapes == "ladder" || shapes == "tiles" ||
                  shapes == "cuts");
  good = good && (tokens.empty() || shapes != "ladder");  // whose steps have sizes of their own
  good = good && (epilogue == llamita::bench::Epilogue::plain || shapes == "tiles");
  if (!good) {
    std::fprintf(stderr,
                 "bench_gemm [--shapes grid|skinny|ladder|tiles|cuts] [--tokens M,M..] "
                 "[--epilogue plain|f32_add|gated|gelu (of tiles)] [--seconds S] [--json FILE]\n");
    return 2;
  }
  const auto close = [](std::FILE* file) { return file == nullptr ? 0 : std::fclose(file); };
  const std::unique_ptr<std::FILE, decltype(close)> json(
      json_path.empty() ? nullptr : std::fopen(json_path.c_str(), "w"), close);
  if (!json_path.empty() && json == nullptr) {
    std::fprintf(stderr, "bench_gemm: cannot write %s\n", json_path.c_str());
    return 1;
  }
  try {
    return llamita::bench::run(shapes, tokens, epilogue, seconds, json.get());
  } catch (const llamita::Error& error) {
    std::printf("bench_gemm: %s\n", error.what());
    return 1;
  }
}
