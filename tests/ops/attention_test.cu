// attention on a GPU: every variant over mixed batches, prefixes, windows, head dims and groups, against the
// CPU's reference; pages hold NaN wherever no key lies.
#include <numeric>

#include "hw/cuda/device_properties.h"
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

// Variants that must take a batch on this card: the ladder down to naive, paged_decode, and on Hopper
// paged_decode_sm90 and flash3.
int expected_variants(const Batch& b, DType cache) {
  const bool has_tiles = b.D == 64 || b.D == 80 || b.D == 96 || b.D == 128 || b.D == 256;
  if (!has_tiles || cache == DType::f32) return 2;
  const bool hopper = cuda::device_properties(0).arch() == 90;
  return 5 + (hopper ? 1 + (b.D != 80 && b.q == cache) : 0);
}

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
  std::string text = cat("H ", b.H, "/", b.Hkv, " D ", b.D, " window ", b.window, b.causal ? "" : " full",
                         " q ", name(b.q), ", rows/keys");
  for (const auto& [rows, keys] : b.sequences) text += cat(" ", rows, "/", keys);
  return text;
}

const Variant<AttentionArgs>& flash3() {
  const auto& variants = attention_op().variants;
  return *std::find_if(variants.begin(), variants.end(), [](auto& v) { return v.name == "flash3_sm90"; });
}

// Runs flash3 as on a card of few multiprocessors: each block has several items, which share its pipeline.
// The bits must be those of the whole card, where it cuts the keys as often.
void check_few_multiprocessors(Scene& scene, const AttentionArgs& args, CudaMachine& gpu,
                               const std::vector<float>& whole, const std::vector<float>& expected,
                               double bound, const std::string& what) {
  const Caps& all = gpu.context().caps();
  for (const int multiprocessors : {2, 4}) {
    Caps few = all;
    few.sm_count = multiprocessors;
    Context on_few(gpu.stream(), gpu.context().arena(), few);
    const Arena::Scope scope(gpu.context().arena());
    scene.out->poison();
    flash3().run(args, on_few);
    gpu.stream().synchronize();
    const std::vector<float> got = scene.out->read();
    const std::string where = cat(what, " on ", multiprocessors, " multiprocessors");
    if (flash3().scratch_bytes(args, few) == flash3().scratch_bytes(args, all))
      EXPECT_EQ(got, whole) << where;
    else
      test::expect_close(got, expected, bound, where);
  }
}

void check(const Batch& b, DType cache) {
  CudaMachine gpu(b.q);
  Scene scene(b, cache);
  const std::vector<float> expected = scene.expected(b);
  const double bound = test::nmse_bound(cache == DType::f32 ? b.q : cache == DType::bf16 ? cache : b.q);
  std::vector<float> by_flash3;
  // Twice: the second run finds the tickets that the first left.
  for (int round = 0; round < 2; ++round) {
    const int variants =
        test::for_variants<AttentionArgs>(attention_op(), scene.args(b), gpu, [&](std::string_view variant) {
          const std::vector<float> got = scene.out->read();
          test::expect_close(got, expected, bound,
                             cat(variant, " round ", round, " cache ", name(cache), " ", text_of(b)));
          if (variant == flash3().name) by_flash3 = got;
          scene.out->poison();
        });
    EXPECT_EQ(variants, expected_variants(b, cache)) << text_of(b);
  }
  if (by_flash3.empty()) return;
  check_few_multiprocessors(scene, scene.args(b), gpu, by_flash3, expected, bound,
                            cat("cache ", name(cache), " ", text_of(b)));
}

TEST_F(CudaAttention, DecodeOfOneSequenceAtEveryLength) {
  for (const int32_t keys : {1, 2, 15, 16, 17, 63, 64, 65, 128, 129, 300, 1025}) {
    check({{{1, keys}}, 6, 2, 64}, DType::bf16);
    check({{{1, keys}}, 4, 1, 128, 0, DType::f16}, DType::f16);
  }
}

TEST_F(CudaAttention, EveryHeadDimGroupAndType) {
  for (const int64_t D : {64, 80, 96, 128, 256}) {
    for (const auto& [H, Hkv] : {std::pair<int64_t, int64_t>{3, 3}, {8, 2}, {20, 1}, {7, 1}}) {
      const DType type = D == 96 ? DType::f16 : DType::bf16;
      check({{{1, 77}, {1, 200}, {1, 5}}, H, Hkv, D, 0, type}, type);
      check({{{70, 70}, {5, 133}}, H, Hkv, D, 0, type}, type);
    }
  }
  check({{{3, 70}}, 4, 2, 24}, DType::bf16);
  check({{{3, 70}}, 4, 2, 64}, DType::f32);
  check({{{3, 70}}, 4, 2, 64, 0, DType::f32}, DType::bf16);
  check({{{3, 70}}, 4, 2, 64, 0, DType::bf16}, DType::f16);
}

TEST_F(CudaAttention, PromptsPrefixesAndMixedSteps) {
  check({{{1, 1}}, 4, 2, 128}, DType::bf16);
  check({{{129, 129}}, 4, 2, 128}, DType::bf16);
  check({{{257, 257}, {1, 900}, {64, 64}, {63, 191}, {1, 1}, {128, 640}}, 4, 2, 64}, DType::bf16);
  check({{{2, 500}, {8, 77}, {4, 4}}, 16, 2, 128}, DType::bf16);
  check({{{300, 1300}}, 2, 1, 256, 0, DType::f16}, DType::f16);
}

TEST_F(CudaAttention, EveryHeadDimWithPrefixesWindowsAndFull) {
  for (const int64_t D : {64, 80, 96, 128, 256}) {
    const DType type = D == 64 || D == 96 ? DType::f16 : DType::bf16;
    check({{{150, 150}, {33, 400}, {1, 129}}, 8, 2, D, 0, type}, type);
    check({{{150, 150}, {33, 400}, {1, 129}}, 8, 2, D, 90, type}, type);
    check({{{150, 150}, {33, 400}, {1, 129}, {1, 64}}, 8, 2, D, 0, type, false}, type);
  }
}

TEST_F(CudaAttention, Full) {
  check({{{1, 1}, {64, 64}, {577, 577}}, 4, 4, 64, 0, DType::bf16, false}, DType::bf16);
  check({{{20, 90}}, 3, 1, 24, 0, DType::f32, false}, DType::f32);
}

// One sequence of a short context: paged_decode_sm90's clusters, with parts of no page and of several, rows
// that fill their share, and one key more than they are taken for.
TEST_F(CudaAttention, DecodeOfOneSequenceInClusters) {
  for (const int32_t keys : {960, 1024, 2047, 4096, 4097}) check({{{1, keys}}, 24, 8, 128}, DType::bf16);
  check({{{1, 1500}}, 32, 4, 128, 0, DType::f16}, DType::f16);
  check({{{2, 1500}}, 8, 2, 128}, DType::bf16);
  check({{{8, 1000}}, 3, 3, 64}, DType::bf16);
  check({{{1, 900}}, 4, 1, 80}, DType::bf16);
  check({{{1, 2500}}, 16, 8, 96, 700, DType::f16}, DType::f16);
  check({{{3, 777}}, 4, 2, 256}, DType::bf16);
  check({{{1, 1100}}, 8, 4, 64, 0, DType::bf16, false}, DType::bf16);
}

// Few rows over a long context: flash3 splits the keys, paged_decode_sm90 shares them between all blocks.
TEST_F(CudaAttention, LongContexts) {
  check({{{128, 4224}}, 8, 1, 128}, DType::bf16);
  check({{{40, 3000}, {17, 2000}}, 4, 1, 64, 0, DType::f16}, DType::f16);
  check({{{16, 2500}}, 4, 1, 96}, DType::bf16);
  check({{{16, 2500}}, 2, 1, 256}, DType::bf16);
  check({{{1, 9000}}, 8, 8, 128}, DType::bf16);
  check({{{1, 9000}, {1, 77}, {2, 3000}}, 8, 4, 64, 2000}, DType::bf16);
}

TEST_F(CudaAttention, SequencesWithoutRows) {
  check({{{0, 40}, {5, 5}, {0, 0}, {1, 90}, {0, 7}}, 4, 2, 64}, DType::bf16);
}

TEST_F(CudaAttention, SlidingWindows) {
  for (const int window : {1, 16, 50, 64, 100, 1000}) {
    check({{{1, 333}, {1, 20}}, 8, 2, 64, window}, DType::bf16);
    check({{{200, 200}, {40, 333}}, 4, 2, 128, window}, DType::bf16);
  }
}

TEST_F(CudaAttention, ManySequencesFillTheCard) {
  Batch batch{{}, 8, 4, 64};
  for (int32_t i = 0; i < 70; ++i) batch.sequences.push_back({1, 1 + i * 13 % 400});
  check(batch, DType::bf16);
  // paged_decode_sm90 gives blocks whole segments of these, the second with blocks left over.
  Batch shorts{{}, 24, 8, 128}, few{{}, 24, 8, 128};
  for (int32_t i = 0; i < 64; ++i) shorts.sequences.push_back({1, 100 + 2 * i});
  for (int32_t i = 0; i < 12; ++i) few.sequences.push_back({1 + i % 2, 2 + 17 * i});
  check(shorts, DType::bf16);
  check(few, DType::bf16);
  Batch large{{}, 16, 8, 128};  // more pages than paged_decode_sm90 gives whole to blocks
  for (int32_t i = 0; i < 40; ++i) large.sequences.push_back({1 + i % 2, 2 + i * 131 % 900});
  check(large, DType::bf16);
}

// Batches for check_few_multiprocessors: rows of whole items and ragged ones, with and without a prefix,
// groups whose heads are packed as rows and one that is not. On a diagonal that begins inside a tile of keys
// flash3's consumers see more than half of it or less, each for itself.
void check_several_items_a_block(DType type) {
  for (const int64_t D : {64, 96, 128, 256}) {
    for (const int64_t H : {2, 3}) {
      Batch batch{{{300, 300}, {200, 460}}, H, 1, D, 0, type};
      check(batch, type);
      batch.causal = false;
      check(batch, type);
      batch.causal = true;
      batch.window = 90;
      check(batch, type);
    }
  }
}
TEST_F(CudaAttention, SeveralItemsABlockBf16) { check_several_items_a_block(DType::bf16); }
TEST_F(CudaAttention, SeveralItemsABlockF16) { check_several_items_a_block(DType::f16); }

// flash3 splits keys only where there are more multiprocessors than items. A plan that promises one row where
// there are hundreds makes it split with several items a block, too.
TEST_F(CudaAttention, SeveralSplitItemsABlock) {
  for (const int64_t D : {64, 96, 128, 256}) {
    const Batch batch{{{300, 1200}}, 2, 1, D};
    CudaMachine gpu(batch.q);
    Scene scene(batch, DType::bf16);
    AttentionArgs args = scene.args(batch);
    const AttentionPlan one_row = bound_attention(1, 1200);
    args.plan = &one_row;
    if (!flash3().supports(args, gpu.context().caps())) GTEST_SKIP() << "needs compute capability 9.0";
    Caps few = gpu.context().caps();
    few.sm_count = 4;
    ASSERT_GT(flash3().scratch_bytes(args, few), 0) << "it does not split";
    {
      const Arena::Scope scope(gpu.context().arena());
      flash3().run(args, gpu.context());
      gpu.stream().synchronize();
    }
    const std::vector<float> whole = scene.out->read(), expected = scene.expected(batch);
    const double bound = test::nmse_bound(DType::bf16);
    test::expect_close(whole, expected, bound, text_of(batch));
    check_few_multiprocessors(scene, args, gpu, whole, expected, bound, text_of(batch));
  }
}

// Launches that follow each other closely share scratch and counters; parts of a sum must have arrived before
// they are added. Any race shows as bits that differ from a run alone.
TEST_F(CudaAttention, EveryRunOfAChainGivesTheSameBits) {
  Batch many{{}, 24, 8, 128}, other{{{16, 4000}, {1, 2000}}, 8, 1, 128}, shorts{{}, 24, 8, 128};
  const Batch clustered{{{1, 1900}}, 24, 8, 128}, alone{{{1, 9000}}, 24, 8, 128};
  for (int32_t i = 0; i < 48; ++i) many.sequences.push_back({1, 1500 + 37 * i % 600});
  for (int32_t i = 0; i < 64; ++i) shorts.sequences.push_back({1, 100 + 3 * i});
  for (const Batch& batch : {many, other, shorts, clustered, alone}) {
    CudaMachine gpu(DType::bf16);
    Scene one(batch, DType::bf16), two(batch, DType::bf16);
    two.q->fill_normal(9);
    const AttentionArgs first = one.args(batch), second = two.args(batch);
    for (const Variant<AttentionArgs>& variant : attention_op().variants) {
      if (variant.name == "naive" || !variant.supports(first, gpu.context().caps())) continue;
      variant.run(first, gpu.context());
      gpu.stream().synchronize();
      const std::vector<float> alone = one.out->read();
      const cuda::Graph graph = cuda::Graph::capture(gpu.stream(), [&] {
        for (int i = 0; i < 16; ++i) variant.run(i % 2 == 0 ? second : first, gpu.context());
      });
      for (int round = 0; round < 20; ++round) {
        graph.launch(gpu.stream());
        gpu.stream().synchronize();
        ASSERT_EQ(one.out->read(), alone) << variant.name << " round " << round << " " << text_of(batch);
      }
    }
  }
}

// A plan of bounds serves shorter steps, so that one captured graph does.
void check_replays(const Batch& batch, int32_t bound, const std::vector<std::vector<int32_t>>& shorter) {
  CudaMachine gpu(DType::bf16);
  Scene scene(batch, DType::bf16);
  AttentionArgs args = scene.args(batch);
  const AttentionPlan bounds = bound_attention(1, bound);
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

  for (const std::vector<int32_t>& lengths : shorter) {
    LLAMITA_CUDA_CHECK(
        cudaMemcpy(scene.kv_len.array.data(), lengths.data(), 4 * lengths.size(), cudaMemcpyHostToDevice));
    LLAMITA_CUDA_CHECK(cudaDeviceSynchronize());
    scene.out->poison();
    graph.launch(gpu.stream());
    gpu.stream().synchronize();
    scene.kv_len.values = lengths;
    scene.plan = plan_attention(scene.q_start.values, lengths);
    test::expect_close(scene.out->read(), scene.expected(batch), test::nmse_bound(DType::bf16),
                       cat("shorter: ", lengths[0]));
  }
}

TEST_F(CudaAttention, ACapturedLaunchReadsItsLengthsFromTheDevice) {
  check_replays({{{1, 700}, {1, 3}}, 8, 2, 64}, 704, {{130, 1}});
  check_replays({{{1, 2048}}, 24, 8, 128}, 2048, {{1500}, {129}, {64}, {1}});  // in clusters, some of no key
}

}  // namespace
}  // namespace llamita
