// attention, every variant: one layer of a small model (9 heads, 3 KV heads, D 64) and of an 8B (32, 8, 128),
// decoding one token at several depths, and a prompt of 512 tokens, over an f16 and an int8 cache. GB/s
// counts the cache, once; %roof is of what binds, reading or multiplying in f32. CPU is that of all threads.
//   bench_ops --benchmark_filter=attention
#include "ops/attention/attention.h"

#include <benchmark/benchmark.h>

#include <numeric>

#include "ops/cpu_roofs.h"
#include "ops/op_test_support.h"
#include "quant/kv_side.h"

namespace llamita {
namespace {

struct Shape {
  int64_t H, Hkv, D;
};

void run_attention(benchmark::State& state, const Variant<AttentionArgs>& variant, DType dtype, Shape shape,
                   int32_t rows, int32_t keys, int threads) {
  test::Machine machine(threads, cpu::best_isa());
  const int64_t pages = (keys + kPageTokens - 1) / kPageTokens;
  const auto side_over = [&](void* data) { return kv_side(data, {dtype}, pages, shape.Hkv, shape.D); };
  // fp16 numbers near 1, or bytes and scales.
  std::vector<uint16_t> keys_memory(static_cast<size_t>(kv_side_bytes(side_over(nullptr)) / 2), 0x3c3c);
  std::vector<uint16_t> values_memory = keys_memory;
  std::vector<int32_t> q_start = {0, rows}, kv_len = {keys}, table(static_cast<size_t>(pages));
  std::iota(table.begin(), table.end(), 0);
  test::Matrix q(rows, shape.H * shape.D), out(rows, shape.H * shape.D);
  test::fill_normal(q, 1);
  const AttentionPlan plan = plan_attention(q_start, kv_len);
  const AttentionArgs args{.q = q.tensor().split_last(shape.H),
                           .k_cache = side_over(keys_memory.data()),
                           .v_cache = side_over(values_memory.data()),
                           .q_start = Tensor::of(q_start.data(), {2}),
                           .kv_len = Tensor::of(kv_len.data(), {1}),
                           .block_table = Tensor::of(table.data(), {1, pages}),
                           .plan = &plan,
                           .scale = 0.1f,
                           .out = out.tensor().split_last(shape.H)};
  for (auto _ : state) variant.run(args, machine.context());
  const Cost cost = attention_op().cost(args);
  const auto runs = static_cast<double>(state.iterations());
  const bench::CpuRoofs& roofs = bench::cpu_roofs(threads);
  const double least_seconds =
      runs * std::max(cost.bytes_read / roofs.read_bytes, cost.flops / roofs.f32_flops);
  state.counters["%roof"] = benchmark::Counter(100 * least_seconds, benchmark::Counter::kIsRate);
  state.counters["GB/s"] = benchmark::Counter(1e-9 * cost.bytes_read * runs, benchmark::Counter::kIsRate);
  state.counters["GFLOP/s"] = benchmark::Counter(1e-9 * cost.flops * runs, benchmark::Counter::kIsRate);
}

const bool registered = [] {
  for (const Shape shape : {Shape{9, 3, 64}, Shape{32, 8, 128}}) {
    for (const auto& [rows, keys] : {std::pair{1, 512}, {1, 4096}, {1, 16384}, {512, 512}, {512, 4608}}) {
      for (const Variant<AttentionArgs>& variant : attention_op().variants) {
        const bool runs = variant.name == "reference" || variant.name.ends_with(cpu::name(cpu::best_isa()));
        for (const DType dtype : {DType::f16, DType::i8}) {
          for (int threads = 1; runs && threads <= usable_cores(); threads *= 2) {
            const std::string label =
                cat("attention/", variant.name, "/H:", shape.H, "/D:", shape.D, "/rows:", rows,
                    "/keys:", keys, "/kv:", name(dtype), "/threads:", threads);
            benchmark::RegisterBenchmark(label.c_str(),
                                         [=, &variant, rows = rows, keys = keys](benchmark::State& s) {
                                           run_attention(s, variant, dtype, shape, rows, keys, threads);
                                         })
                ->UseRealTime()
                ->MeasureProcessCPUTime()
                ->Unit(benchmark::kMicrosecond);
          }
        }
      }
    }
  }
  return true;
}();

}  // namespace
}  // namespace llamita
