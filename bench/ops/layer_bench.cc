// A layer without its attention (attn_in, output projection, mlp_in, down projection), fused and as the ops
// it is made of, in the shapes of SmolLM2-135M and of Llama-3.2-1B: what regions and serial work between them
// cost. The layers rotate, so that the weights come from DRAM. "regions" are those of one layer, "least_us"
// is the time of the one that was disturbed least.
//   bench_ops --benchmark_filter='layer/'
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdlib>

#include "base/timer.h"
#include "ops/attn_in/attn_in.h"
#include "ops/linear/linear.h"
#include "ops/mlp_in/mlp_in.h"
#include "ops/op_test_support.h"
#include "quant/interleave.h"

namespace llamita {
namespace {

struct Shape {
  const char* name;
  int64_t C, H, Hkv, D, F;
  int layers;  // that rotate
};
constexpr Shape kShapes[] = {{"135m", 576, 9, 3, 64, 1536, 30}, {"1b", 2048, 32, 8, 64, 8192, 4}};

struct Layer {
  quant::Weight qkv, out, in, down;
};

quant::Weight weight_of(std::initializer_list<int64_t> parts, int64_t cols) {
  quant::Weight weight;
  weight.cols = cols;
  for (const int64_t rows : parts) weight.parts.push_back(test::random_part(DType::q4_1, rows, cols, 1));
  return quant::interleaved(weight);
}

// Kept until another shape asks.
const std::vector<Layer>& layers_of(const Shape& shape) {
  static std::vector<Layer> layers;
  static const char* kept = "";
  if (kept == shape.name) return layers;
  kept = shape.name;
  layers.clear();
  const int64_t q = shape.H * shape.D, kv = shape.Hkv * shape.D;
  for (int i = 0; i < shape.layers; ++i) {
    layers.push_back({weight_of({q, kv, kv}, shape.C), weight_of({shape.C}, q),
                      weight_of({shape.F, shape.F}, shape.C), weight_of({shape.C}, shape.F)});
  }
  return layers;
}

void run_layers(benchmark::State& state, const Shape& shape, int64_t T, int threads, bool fused) {
  const std::vector<Layer>& layers = layers_of(shape);
  setenv("LLAMITA_KERNEL", fused ? "attn_in=cpu,mlp_in=cpu" : "attn_in=composition,mlp_in=composition", 1);
  ThreadPool pool(threads);
  Arena arena(size_t{1} << 26);
  Context context(pool, arena, test::Machine::caps_of(pool.threads(), cpu::best_isa()));
  unsetenv("LLAMITA_KERNEL");

  const int64_t pages = (T + kPageTokens - 1) / kPageTokens;
  test::Matrix x(T, shape.C), weight(1, shape.C), table(T, shape.D), q(T, shape.H * shape.D);
  test::Matrix hidden(T, shape.F);
  for (test::Matrix* m : {&x, &weight, &table, &q}) test::fill_normal(*m, 2, 0.1f);
  std::vector<f16> k(static_cast<size_t>(pages * shape.Hkv * kPageTokens * shape.D)), v = k;
  std::vector<int64_t> slots(static_cast<size_t>(T));
  for (int64_t t = 0; t < T; ++t) slots[static_cast<size_t>(t)] = t;
  const auto cache = [&](std::vector<f16>& side) {
    return Tensor::of(side.data(), {pages, shape.Hkv, kPageTokens, shape.D});
  };
  const Tensor norm_weight(weight.row(0), DType::f32, {shape.C});
  test::Matrix out(T, shape.C);

  size_t next = 0;
  const uint32_t before = pool.regions();
  double least = 1e9;
  for (auto _ : state) {
    const Stopwatch watch;
    const Layer& layer = layers[next++ % layers.size()];
    attn_in({.x = x.tensor(),
             .norm_weight = norm_weight,
             .qkv = &layer.qkv,
             .cos_sin = table.tensor(),
             .kv_slot = Tensor::of(slots.data(), {T}),
             .k_cache = cache(k),
             .v_cache = cache(v),
             .q = q.tensor().split_last(shape.H)},
            context);
    linear({.x = q.tensor(), .weight = &layer.out, .residual = x.tensor(), .out = out.tensor()}, context);
    mlp_in({.x = x.tensor(), .norm_weight = norm_weight, .in = &layer.in, .out = hidden.tensor()}, context);
    linear({.x = hidden.tensor(), .weight = &layer.down, .residual = x.tensor(), .out = out.tensor()},
           context);
    benchmark::ClobberMemory();
    least = std::min(least, watch.microseconds());
  }
  state.counters["least_us"] = least;
  state.counters["regions"] =
      static_cast<double>(pool.regions() - before) / static_cast<double>(state.iterations());
}

const bool registered = [] {
  for (const Shape& shape : kShapes) {
    for (const int64_t T : {1, 4, 8, 16, 64, 512}) {
      for (int threads = 1; threads <= usable_cores(); threads *= 2) {
        for (const bool fused : {false, true}) {
          benchmark::RegisterBenchmark(
              cat("layer/", shape.name, "/T:", T, "/threads:", threads, fused ? "/fused" : "/composed")
                  .c_str(),
              [=, &shape](benchmark::State& state) { run_layers(state, shape, T, threads, fused); })
              ->UseRealTime()
              ->MeasureProcessCPUTime()
              ->Unit(benchmark::kMicrosecond);
        }
      }
    }
  }
  return true;
}();

}  // namespace
}  // namespace llamita
