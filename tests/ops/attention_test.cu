// attention on a GPU: every variant over mixed batches, prefixes, windows, head dims and groups, against the
// CPU's reference; pages hold NaN wherever no key lies.
#include <numeric>

#include "hw/cuda/graph.h"
#include "ops/attention/attention.h"
#include "ops/cuda_test_support.h"

namespace llamita {
namespace {

using test::CudaMachine;
using test::DeviceInts;
using test::DeviceMatrix;
using test::Machine;
using CudaAttention = test::GpuTest;

struct Batch {
  std::vector<std::pair<int32_t, int32_t>> sequences;  // rows of this step, keys in all
  int64_t H, Hkv, D;
  int window = 0;
  DType q = DType::bf16;
  bool causal = true;
};

// Everything of a batch on both sides.
struct Scene {
  Scene(const Batch& b, DType cache)
      : B(static_cast<int64_t>(b.sequences.size())), q_start({0}), kv_len({0}), table({0}) {
    std::vector<int32_t> starts{0}, lengths, pages;
    for (const auto& [rows, keys] : b.sequences) {
      starts.push_back(starts.back() + rows);
      lengths.push_back(keys);
      max_blocks = std::max<int64_t>(max_blocks, (keys + 63) / 64 + 1);
    }
    T = starts.back();
    // Pages in a scrambled order; entries behind a sequence's last page are no page at all.
    int32_t used = 0;
    std::vector<int32_t> all;
    for (const int32_t keys : lengths) used += (keys + 63) / 64;
    for (int32_t page = 0; page < used; ++page) all.push_back((page * 7 + 3) % used);
    if (used % 7 == 0) std::iota(all.begin(), all.end(), 0);
    size_t next = 0;
    for (const int32_t keys : lengths)
      for (int64_t block = 0; block < max_blocks; ++block)
        pages.push_back(block < (keys + 63) / 64 ? all[next++] : INT32_MIN);
    page_count = std::max(used, 1);
    q_start = DeviceInts<int32_t>(starts);
    kv_len = DeviceInts<int32_t>(lengths);
    table = DeviceInts<int32_t>(pages);
    q = std::make_unique<DeviceMatrix>(T, b.H * b.D, b.q, 8);
    out = std::make_unique<DeviceMatrix>(T, b.H * b.D, b.q, 8);
    q->fill_normal(1);
    k = std::make_unique<DeviceMatrix>(page_count * b.Hkv * 64, b.D, cache, 0);
    v = std::make_unique<DeviceMatrix>(page_count * b.Hkv * 64, b.D, cache, 0);
    fill_cache(*k, b, 2);
    fill_cache(*v, b, 3);
    plan = plan_attention(starts, lengths);
  }

  void fill_cache(DeviceMatrix& cache, const Batch& b, uint32_t seed) const {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<size_t>(page_count * b.Hkv * 64 * b.D), test::kNan);
    for (int64_t s = 0; s < B; ++s)
      for (int64_t key = 0; key < kv_len.values[static_cast<size_t>(s)]; ++key)
        for (int64_t head = 0; head < b.Hkv; ++head)
          for (int64_t d = 0; d < b.D; ++d) {
            const int64_t page = table.values[static_cast<size_t>(s * max_blocks + key / 64)];
            values[static_cast<size_t>(((page * b.Hkv + head) * 64 + key % 64) * b.D + d)] = normal(random);
          }
    cache.fill(values);
  }

  AttentionArgs args(const Batch& b) const {
    return {.q = q->tensor().split_last(b.H),
            .k_cache = k->tensor().view({page_count, b.Hkv, 64, b.D}),
            .v_cache = v->tensor().view({page_count, b.Hkv, 64, b.D}),
            .q_start = q_start.tensor(),
            .kv_len = kv_len.tensor(),
            .block_table = table.tensor({B, max_blocks}),
            .plan = &plan,
            .scale = 1.0f / std::sqrt(static_cast<float>(b.D)),
            .window = b.window,
            .causal = b.causal,
            .out = out->tensor().split_last(b.H)};
  }

  std::vector<float> expected(const Batch& b) {
    std::vector<float> result(static_cast<size_t>(T * b.H * b.D));
    Machine cpu(1, cpu::Isa::generic);
    AttentionArgs reference = args(b);
    reference.q = Tensor::of(q->host().data(), {T, b.H, b.D});
    reference.k_cache = Tensor::of(k->host().data(), {page_count, b.Hkv, 64, b.D});
    reference.v_cache = Tensor::of(v->host().data(), {page_count, b.Hkv, 64, b.D});
    reference.q_start = q_start.host();
    reference.kv_len = kv_len.host();
    reference.block_table = Tensor::of(table.values.data(), {B, max_blocks});
    reference.out = Tensor::of(result.data(), {T, b.H, b.D});
    test::run_reference(attention_op(), reference, cpu.context());
    return result;
  }

  int64_t B, T = 0, max_blocks = 1, page_count = 1;
  DeviceInts<int32_t> q_start, kv_len, table;
  std::unique_ptr<DeviceMatrix> q, k, v, out;
  AttentionPlan plan;
};

std::string text_of(const Batch& b) {
  std::string text = cat(b.causal ? "" : "full, ", "H ", b.H, "/", b.Hkv, " D ", b.D, " window ", b.window,
                         " q ", name(b.q), ", rows/keys");
  for (const auto& [rows, keys] : b.sequences) text += cat(" ", rows, "/", keys);
  return text;
}

void check(const Batch& b, DType cache, int least_variants) {
  CudaMachine gpu(b.q);
  Scene scene(b, cache);
  const std::vector<float> expected = scene.expected(b);
  const double bound = test::nmse_bound(cache == DType::f32 ? b.q : cache == DType::bf16 ? cache : b.q);
  // Twice: the second run finds the tickets that the first left.
  for (int round = 0; round < 2; ++round) {
    const int variants =
        test::for_variants<AttentionArgs>(attention_op(), scene.args(b), gpu, [&](std::string_view variant) {
          test::expect_close(scene.out->read(), expected, bound,
                             cat(variant, " round ", round, " cache ", name(cache), " ", text_of(b)));
          scene.out->poison();
        });
    EXPECT_GE(variants, least_variants) << text_of(b);
  }
}

TEST_F(CudaAttention, DecodeOfOneSequenceAtEveryLength) {
  for (const int32_t keys : {1, 2, 15, 16, 17, 63, 64, 65, 128, 129, 300, 1025}) {
    check({{{1, keys}}, 6, 2, 64}, DType::bf16, 3);
    check({{{1, keys}}, 4, 1, 128, 0, DType::f16}, DType::f16, 3);
  }
}

TEST_F(CudaAttention, EveryHeadDimGroupAndType) {
  for (const int64_t D : {64, 80, 96, 128, 256}) {
    for (const auto& [H, Hkv] : {std::pair<int64_t, int64_t>{3, 3}, {8, 2}, {20, 1}, {7, 1}}) {
      const DType type = D == 96 ? DType::f16 : DType::bf16;
      check({{{1, 77}, {1, 200}, {1, 5}}, H, Hkv, D, 0, type}, type, 3);
      check({{{70, 70}, {5, 133}}, H, Hkv, D, 0, type}, type, 3);
    }
  }
  check({{{3, 70}}, 4, 2, 24}, DType::bf16, 1);
  check({{{3, 70}}, 4, 2, 64}, DType::f32, 1);
  check({{{3, 70}}, 4, 2, 64, 0, DType::f32}, DType::bf16, 3);
  check({{{3, 70}}, 4, 2, 64, 0, DType::bf16}, DType::f16, 3);
}

TEST_F(CudaAttention, PromptsPrefixesAndMixedSteps) {
  check({{{1, 1}}, 4, 2, 128}, DType::bf16, 3);
  check({{{129, 129}}, 4, 2, 128}, DType::bf16, 3);
  check({{{257, 257}, {1, 900}, {64, 64}, {63, 191}, {1, 1}, {128, 640}}, 4, 2, 64}, DType::bf16, 3);
  check({{{2, 500}, {8, 77}, {4, 4}}, 16, 2, 128}, DType::bf16, 3);
  check({{{300, 1300}}, 2, 1, 256, 0, DType::f16}, DType::f16, 3);
}

TEST_F(CudaAttention, SequencesWithoutRows) {
  check({{{0, 40}, {5, 5}, {0, 0}, {1, 90}, {0, 7}}, 4, 2, 64}, DType::bf16, 3);
}

TEST_F(CudaAttention, SlidingWindows) {
  for (const int window : {1, 16, 50, 64, 100, 1000}) {
    check({{{1, 333}, {1, 20}}, 8, 2, 64, window}, DType::bf16, 3);
    check({{{200, 200}, {40, 333}}, 4, 2, 128, window}, DType::bf16, 3);
  }
}

// A vision tower's tokens see each other: every sequence has as many keys as rows, or more.
TEST_F(CudaAttention, FullAttention) {
  for (const DType type : {DType::bf16, DType::f16}) {
    check({{{65, 65}, {65, 65}}, 2, 2, 64, 0, type, false}, type, 3);
    check({{{577, 577}, {577, 577}, {577, 577}}, 4, 4, 64, 0, type, false}, type, 3);
    check({{{1, 1}, {3, 130}, {129, 700}}, 4, 2, 128, 0, type, false}, type, 3);
    check({{{1, 333}, {200, 257}}, 6, 2, 80, 0, type, false}, type, 2);
  }
}

TEST_F(CudaAttention, ManySequencesFillTheCard) {
  Batch batch{{}, 8, 4, 64};
  for (int32_t i = 0; i < 70; ++i) batch.sequences.push_back({1, 1 + i * 13 % 400});
  check(batch, DType::bf16, 3);
}

// A plan of bounds serves shorter steps, so that one captured graph does.
TEST_F(CudaAttention, ACapturedLaunchReadsItsLengthsFromTheDevice) {
  const Batch batch{{{1, 700}, {1, 3}}, 8, 2, 64};
  CudaMachine gpu(DType::bf16);
  Scene scene(batch, DType::bf16);
  AttentionArgs args = scene.args(batch);
  const AttentionPlan bounds = bound_attention(1, 704);
  args.plan = &bounds;
  attention(args, gpu.context());  // the first run loads the kernel, which a capture must not
  gpu.stream().synchronize();
  const std::vector<float> direct = scene.out->read();
  test::expect_close(direct, scene.expected(batch), test::nmse_bound(DType::bf16), "bounds alone");
  const cuda::Graph graph = cuda::Graph::capture(gpu.stream(), [&] { attention(args, gpu.context()); });
  scene.out->poison();
  graph.launch(gpu.stream());
  gpu.stream().synchronize();
  EXPECT_EQ(scene.out->read(), direct) << "a replay differs from the launch";

  const std::vector<int32_t> shorter{130, 1};
  LLAMITA_CUDA_CHECK(cudaMemcpy(scene.kv_len.array.data(), shorter.data(), 8, cudaMemcpyHostToDevice));
  LLAMITA_CUDA_CHECK(cudaDeviceSynchronize());
  graph.launch(gpu.stream());
  gpu.stream().synchronize();
  scene.kv_len.values = shorter;
  scene.plan = plan_attention(scene.q_start.values, shorter);
  test::expect_close(scene.out->read(), scene.expected(batch), test::nmse_bound(DType::bf16), "shorter");
}

}  // namespace
}  // namespace llamita
