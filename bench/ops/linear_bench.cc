// linear, every variant and format: GB/s of stored weights and GFLOP/s, and the larger of their parts of what
// the machine can read and multiply (cpu_roofs.h; multiply: in the type the variant multiplies in). The
// weights rotate over enough copies that they come from DRAM. "chosen" is the variant of the op table.
//   bench_ops --benchmark_filter='linear/Q4_1'
#include <benchmark/benchmark.h>

#include <cstring>

#include "ops/cpu_roofs.h"
#include "ops/linear/linear.h"
#include "ops/op_test_support.h"
#include "quant/interleave.h"

namespace llamita {
namespace {

constexpr int64_t kN = 4096, kK = 4096;
constexpr int64_t kCacheBytes = 96 << 20;

// The same bytes elsewhere: what comes from DRAM does not care that it repeats.
quant::Weight copy_of(const quant::Weight& weight) {
  quant::Weight copy = weight;
  for (quant::Part& part : copy.parts) {
    const size_t bytes = part.storage.bytes();
    Storage storage = Storage::allocate(bytes);
    std::memcpy(storage.data(), part.storage.data(), bytes);
    part.storage = std::move(storage);
  }
  return copy;
}

// A format's weights, over enough copies that they come from DRAM; kept until another format asks.
const std::vector<quant::Weight>& rotated_weights(DType format) {
  static std::vector<quant::Weight> weights;
  if (!weights.empty() && weights[0].parts[0].format == format) return weights;
  weights.clear();
  weights.push_back(test::random_weight(format, kN, kK, 1));
  if (quant::can_interleave(format, kN)) weights[0] = quant::interleaved(weights[0]);
  for (int64_t bytes = 0; bytes < kCacheBytes; bytes += weights.back().bytes()) {
    weights.push_back(copy_of(weights[0]));
  }
  return weights;
}

// Without a variant: the one that the table chooses.
void run_linear(benchmark::State& state, const Variant<LinearArgs>* variant, DType format, int64_t T,
                int threads) {
  test::Machine machine(threads, cpu::best_isa());
  const std::vector<quant::Weight>& weights = rotated_weights(format);
  test::Matrix x(T, kK), out(T, kN);
  test::fill_normal(x, 2);
  size_t next = 0;
  for (auto _ : state) {
    const LinearArgs args{x.tensor(), &weights[next++ % weights.size()], {}, {}, out.tensor()};
    if (variant == nullptr)
      linear(args, machine.context());
    else
      variant->run(args, machine.context());
    benchmark::ClobberMemory();
  }
  const auto runs = static_cast<double>(state.iterations());
  const double bytes = static_cast<double>(weights[0].bytes()) * runs;
  const double flops = 2.0 * static_cast<double>(T * kN * kK) * runs;
  const bench::CpuRoofs& roofs = bench::cpu_roofs(threads);
  const LinearArgs shape{x.tensor(), &weights[0], {}, {}, out.tensor()};
  const std::string_view name =
      variant != nullptr ? variant->name : choose(linear_op(), shape, machine.context()).name;
  const double multiply = name.find("int8") != std::string_view::npos   ? roofs.int8_operations
                          : name.find("bf16") != std::string_view::npos ? roofs.bf16_flops
                                                                        : roofs.f32_flops;
  const double least_seconds = std::max(bytes / roofs.read_bytes, multiply > 0 ? flops / multiply : 0.0);
  state.counters["GB/s"] = benchmark::Counter(1e-9 * bytes, benchmark::Counter::kIsRate);
  state.counters["GFLOP/s"] = benchmark::Counter(1e-9 * flops, benchmark::Counter::kIsRate);
  state.counters["%roof"] = benchmark::Counter(100 * least_seconds, benchmark::Counter::kIsRate);
}

void add_benchmark(const Variant<LinearArgs>* variant, DType format, int64_t T, int threads) {
  const std::string_view variant_name = variant != nullptr ? variant->name : "chosen";
  const std::string label = cat("linear/", name(format), "/", variant_name, "/T:", T, "/threads:", threads);
  benchmark::RegisterBenchmark(
      label.c_str(), [=](benchmark::State& state) { run_linear(state, variant, format, T, threads); })
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
}

const bool registered = [] {
  for (const DType format :
       {DType::f32, DType::f16, DType::bf16, DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1, DType::q8_0,
        DType::q2_k, DType::q3_k, DType::q4_k, DType::q5_k, DType::q6_k, DType::iq4_nl}) {
    for (int64_t T : {1, 2, 4, 8, 16, 512})
      for (int threads = 1; threads <= usable_cores(); threads *= 2)
        add_benchmark(nullptr, format, T, threads);
    for (const Variant<LinearArgs>& variant : linear_op().variants) {
      for (const int64_t T : {1, 2, 4, 8, 16, 512}) {
        for (int threads = 1; threads <= usable_cores(); threads *= 2) {
          const quant::Weight weight = test::random_weight(format, 1, kK, 1);
          const LinearArgs args{Tensor(nullptr, DType::f32, {T, kK}), &weight, {}, {}, {}};
          if (!variant.supports(args, test::Machine::caps_of(threads, cpu::best_isa()))) continue;
          if (variant.name == "reference" && (T > 1 || threads > 1)) continue;
          add_benchmark(&variant, format, T, threads);
        }
      }
    }
  }
  return true;
}();

}  // namespace
}  // namespace llamita
