// bench_gemm [--shapes grid|skinny]: the op `linear` on a GPU, whatever variant its table chooses, beside the
// best algorithm of cuBLASLt on the same buffers in the same run. bf16 in and out; checked against fp64.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>

#include "hw/cuda/device_properties.h"
#include "lessons/bench.h"
#include "lessons/cublaslt.h"
#include "lessons/gemm_check.h"
#include "llamita/error.h"
#include "ops/linear/linear.h"

namespace llamita::bench {
namespace {

using lessons::Gemm;
using lessons::median;
using lessons::TimedGraph;

struct Shape {
  int m, n, k;
};

std::vector<Shape> grid_shapes() {  // M of the project's target, the layers of Llama-3.2-3B and Llama-3.1-8B
  const int layers[8][2] = {{5120, 3072}, {3072, 3072}, {16384, 3072}, {3072, 8192},
                            {6144, 4096}, {4096, 4096}, {28672, 4096}, {4096, 14336}};  // N, K
  std::vector<Shape> shapes;
  for (const int m : {256, 512, 1024, 2048, 8192})
    for (const auto& layer : layers) shapes.push_back({m, layer[0], layer[1]});
  return shapes;
}

std::vector<Shape> skinny_shapes() {  // QKV, O, gate-up, down of Llama-3.2-1B and 3B, Llama-3.1-8B; a head
  const int layers[13][2] = {{3072, 2048},  {2048, 2048},  {16384, 2048}, {2048, 8192}, {5120, 3072},
                             {3072, 3072},  {16384, 3072}, {3072, 8192},  {6144, 4096}, {4096, 4096},
                             {28672, 4096}, {4096, 14336}, {128256, 3072}};  // N, K
  std::vector<Shape> shapes;
  for (const int m : {1, 2, 4, 8, 12, 16, 32, 64, 128})
    for (const auto& layer : layers) shapes.push_back({m, layer[0], layer[1]});
  return shapes;
}

// A problem's matrices, in several sets so that L2 has forgotten one before it is used again.
struct Buffers {
  std::vector<Storage> a, b, c;
  Shape shape;

  Buffers(const Shape& s, size_t sets, uint64_t seed, const cuda::Stream& stream) : shape(s) {
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
      matrix(size_t(s.m) * s.n, 0, c);
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
  GemmBench() : device_(cuda::device_properties(0)), seed_(std::random_device{}()) {
    caps_ = {.device = DeviceKind::cuda,
             .activation = DType::bf16,
             .device_index = 0,
             .arch = device_.arch(),
             .sm_count = device_.sm_count};
    const char* why = "";
    peer_ = lessons::CublasLt::load(&why);
    if (peer_ == nullptr) std::printf("no cuBLASLt column: %s\n", why);
  }

  // Peer's time / own time; 0 without a peer, -1 for a wrong result.
  double run(const Shape& shape) {
    const double flop = 2.0 * shape.m * shape.n * shape.k;
    const size_t set_bytes =
        2 * (size_t(shape.m) * shape.k + size_t(shape.n) * shape.k + size_t(shape.m) * shape.n);
    const size_t sets = std::clamp<size_t>(5 * device_.l2_bytes / 2 / set_bytes + 1, 2, 32);
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
    for (double seconds = 0; seconds < 0.4 || own_us.size() < 5;) {
      const double x = own.microseconds(), y = peer ? peer->microseconds() : 0;
      seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      if (seconds > 0.15) own_us.push_back(x), peer_us.push_back(y);
    }
    const double us = median(own_us), peer_median = median(peer_us);
    const double weights = 2.0 * shape.n * shape.k;
    std::printf("%5d x %5d x %5d  %-16s %8.1f us %7.1f TFLOP/s %5.0f GB/s", shape.m, shape.n, shape.k,
                variant.c_str(), us, flop / us * 1e-6, weights / us * 1e-3);
    if (peer) std::printf("   cuBLASLt %8.1f us   x %.3f", peer_median, peer_median / us);
    std::printf("%s\n", right ? "" : "   WRONG");
    std::fflush(stdout);
    return right ? peer_median / us : -1;
  }

 private:
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
  uint64_t seed_;
};

int run(const std::string& which) {
  if (cuda::device_count() == 0) {
    std::printf("bench_gemm: skipped, there is no NVIDIA GPU here\n");
    return 0;
  }
  GemmBench bench;
  int bad = 0;
  double log_sum = 0;
  int count = 0;
  for (const Shape& shape : which == "skinny" ? skinny_shapes() : grid_shapes()) {
    const double ratio = bench.run(shape);
    if (ratio < 0) ++bad;
    if (ratio > 0) log_sum += std::log(ratio), ++count;
  }
  if (count > 0)
    std::printf("geometric mean over %d shapes: x %.3f of cuBLASLt\n", count, std::exp(log_sum / count));
  return bad == 0 ? 0 : 1;
}

}  // namespace
}  // namespace llamita::bench

int main(int argc, char** argv) {
  std::string shapes = "grid";
  if (argc == 3 && std::strcmp(argv[1], "--shapes") == 0) shapes = argv[2];
  if ((argc != 1 && argc != 3) || (shapes != "grid" && shapes != "skinny")) {
    std::fprintf(stderr, "bench_gemm [--shapes grid|skinny]\n");
    return 2;
  }
  try {
    return llamita::bench::run(shapes);
  } catch (const llamita::Error& error) {
    std::printf("bench_gemm: %s\n", error.what());
    return 1;
  }
}
