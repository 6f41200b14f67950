// decoder_layers on a GPU: the variant that does all layers in one kernel, against the CPU's composition in
// fp32 and beside the composition on the card, over shapes, numbers of tokens, lengths and windows; pages
// hold NaN wherever no key lies, and scratch wherever nobody wrote.
#include <cmath>

#include "hw/cuda/device_properties.h"
#include "ops/cuda_test_support.h"
#include "ops/decoder_layers/decoder_layers.h"
#include "quant/kv_format.h"

namespace llamita {
namespace {

using test::CudaMachine;
using test::DeviceInts;
using test::DeviceMatrix;
using test::Machine;
using CudaDecoderLayers = test::GpuTest;

struct Case {
  int64_t C, F, H, Hkv, D, layers;
  std::vector<int32_t> keys;  // of each sequence, the step's token included
  int window = 0;
  bool bias = false, qk_norm = false;
};

std::string text_of(const Case& c) {
  std::string text = cat("C ", c.C, " F ", c.F, " H ", c.H, "/", c.Hkv, " D ", c.D, " layers ", c.layers,
                         " window ", c.window, " bias ", c.bias, " qk_norm ", c.qk_norm, " keys");
  for (const int32_t keys : c.keys) text += cat(" ", keys);
  return text;
}

const Variant<DecoderLayersArgs>& variant_named(std::string_view name) {
  for (const auto& variant : decoder_layers_op().variants)
    if (variant.name == name) return variant;
  throw Error(cat("no variant ", name));
}

// One layer on both sides.
struct Side {
  Side(const Case& c, int64_t pages, const std::vector<bool>& holds_key, uint32_t seed)
      : attn_norm(1, c.C, DType::f32),
        mlp_norm(1, c.C, DType::f32),
        bias(1, (c.H + 2 * c.Hkv) * c.D, DType::f32),
        q_norm(1, c.D, DType::f32),
        k_norm(1, c.D, DType::f32),
        k(pages * c.Hkv * kPageTokens, c.D, DType::bf16, 0),
        v(pages * c.Hkv * kPageTokens, c.D, DType::bf16, 0) {
    const auto weight = [&](std::vector<int64_t> parts, int64_t cols) {
      quant::Weight made{.cols = cols, .parts = {}};
      for (const int64_t rows : parts)
        made.parts.push_back(test::random_part(DType::bf16, rows, cols, ++seed));
      return made;
    };
    const int64_t q_rows = c.H * c.D, kv_rows = c.Hkv * c.D;
    host = {weight({q_rows, kv_rows, kv_rows}, c.C), weight({c.C}, q_rows), weight({c.F, c.F}, c.C),
            weight({c.C}, c.F)};
    for (const quant::Weight& w : host) card.push_back(test::to_device_in_one_piece(w));
    const float gain = 1 / std::sqrt(static_cast<float>(c.C));
    attn_norm.fill_normal(++seed, gain);
    mlp_norm.fill_normal(++seed, gain);
    bias.fill_normal(++seed);
    q_norm.fill_normal(++seed);
    k_norm.fill_normal(++seed);
    for (DeviceMatrix* side : {&k, &v}) {
      std::mt19937 random(++seed);
      std::normal_distribution<float> normal;
      std::vector<float> values(static_cast<size_t>(pages * c.Hkv * kPageTokens * c.D), test::kNan);
      for (int64_t row = 0; row < pages * c.Hkv * kPageTokens; ++row) {
        const int64_t page = row / (c.Hkv * kPageTokens), offset = row % kPageTokens;
        if (!holds_key[static_cast<size_t>(page * kPageTokens + offset)]) continue;
        for (int64_t d = 0; d < c.D; ++d) values[static_cast<size_t>(row * c.D + d)] = normal(random);
      }
      side->fill(values);
    }
  }

  DecoderLayer layer(const Case& c, int64_t pages, bool on_card) {
    const auto vector = [&](DeviceMatrix& m) { return on_card ? m.vector() : m.host_vector(); };
    const auto cache = [&](DeviceMatrix& m) {
      return on_card ? m.tensor().view({pages, c.Hkv, kPageTokens, c.D})
                     : Tensor::of(m.host().data(), {pages, c.Hkv, kPageTokens, c.D});
    };
    const std::vector<quant::Weight>& w = on_card ? card : host;
    DecoderLayer made;
    made.attn_norm = vector(attn_norm);
    made.mlp_norm = vector(mlp_norm);
    if (c.bias) made.qkv_bias = vector(bias);
    if (c.qk_norm) made.q_norm = vector(q_norm), made.k_norm = vector(k_norm);
    made.qkv = &w[0];
    made.out = &w[1];
    made.gate_up = &w[2];
    made.down = &w[3];
    made.k_cache = cache(k);
    made.v_cache = cache(v);
    made.window = c.window;
    return made;
  }

  DeviceMatrix attn_norm, mlp_norm, bias, q_norm, k_norm, k, v;
  std::vector<quant::Weight> host, card;
};

class Scene {
 public:
  explicit Scene(const Case& c)
      : c_(c),
        T_(static_cast<int64_t>(c.keys.size())),
        x_(T_, c.C, DType::f32),
        cos_sin_(T_, c.D, DType::f32),
        q_start_({0}),
        kv_len_({0}),
        table_({0}),
        slots_({0}) {
    std::vector<int32_t> starts{0}, table;
    std::vector<int64_t> slots;
    for (const int32_t keys : c.keys) blocks_ = std::max<int64_t>(blocks_, (keys + 63) / 64);
    pages_ = blocks_ * T_;
    std::vector<bool> holds_key(static_cast<size_t>(pages_ * kPageTokens));
    for (int64_t b = 0; b < T_; ++b) {
      const int32_t keys = c.keys[static_cast<size_t>(b)];
      starts.push_back(static_cast<int32_t>(b + 1));
      for (int64_t block = 0; block < blocks_; ++block)
        table.push_back(static_cast<int32_t>(block * T_ + T_ - 1 - b));  // pages of a sequence apart
      for (int32_t key = 0; key + 1 < keys; ++key)
        holds_key[static_cast<size_t>(table[static_cast<size_t>(b * blocks_ + key / 64)] * 64 + key % 64)] =
            true;
      slots.push_back(int64_t{table[static_cast<size_t>(b * blocks_ + (keys - 1) / 64)]} * 64 +
                      (keys - 1) % 64);
    }
    q_start_ = DeviceInts<int32_t>(starts);
    kv_len_ = DeviceInts<int32_t>(c.keys);
    table_ = DeviceInts<int32_t>(table);
    slots_ = DeviceInts<int64_t>(slots);
    x_.fill_normal(1, 3);
    start_ = x_.host();
    std::vector<float> turns(static_cast<size_t>(T_ * c.D));
    for (int64_t t = 0; t < T_; ++t)
      for (int64_t i = 0; i < c.D / 2; ++i) {
        const auto angle = static_cast<float>((t + 3) * (i + 1)) * 0.37f;
        turns[static_cast<size_t>(t * c.D + i)] = std::cos(angle);
        turns[static_cast<size_t>(t * c.D + c.D / 2 + i)] = std::sin(angle);
      }
    cos_sin_.fill(turns);
    for (int64_t i = 0; i < c.layers; ++i)
      sides_.push_back(std::make_unique<Side>(c, pages_, holds_key, static_cast<uint32_t>(100 * i)));
    for (auto& side : sides_) {
      card_layers_.push_back(side->layer(c, pages_, true));
      host_layers_.push_back(side->layer(c, pages_, false));
    }
    plan_ = plan_attention(starts, c.keys);
  }

  DecoderLayersArgs args(bool on_card) {
    DecoderLayersArgs args;
    args.x = on_card ? x_.tensor() : x_.host_tensor();
    args.cos_sin = on_card ? cos_sin_.tensor() : cos_sin_.host_tensor();
    args.kv_slot = on_card ? slots_.tensor() : slots_.host();
    args.q_start = on_card ? q_start_.tensor() : q_start_.host();
    args.kv_len = on_card ? kv_len_.tensor() : kv_len_.host();
    args.block_table =
        on_card ? table_.tensor({T_, blocks_}) : Tensor::of(table_.values.data(), {T_, blocks_});
    args.plan = &plan_;
    args.heads = c_.H;
    args.layers = on_card ? card_layers_ : host_layers_;
    return args;
  }

  // The residual stream and every layer's caches after a variant on the card, from the same start.
  std::vector<std::vector<float>> run(const Variant<DecoderLayersArgs>& variant, CudaMachine& gpu) {
    x_.fill(start_);
    const DecoderLayersArgs card = args(true);
    decoder_layers_op().check(card);
    const Arena::Scope scope(gpu.context().arena());
    variant.run(card, gpu.context());
    gpu.stream().synchronize();
    std::vector<std::vector<float>> got{x_.read()};
    for (auto& side : sides_)
      for (DeviceMatrix* cache : {&side->k, &side->v}) got.push_back(cache->read());
    return got;
  }

  // The same of the CPU; its caches are f32.
  std::vector<std::vector<float>> expected() {
    x_.fill(start_);
    setenv("LLAMITA_KERNEL", "linear=reference", 1);
    Machine cpu(1, cpu::Isa::generic);
    unsetenv("LLAMITA_KERNEL");
    variant_named("composition").run(args(false), cpu.context());
    std::vector<std::vector<float>> got{x_.host()};
    for (auto& side : sides_)
      for (DeviceMatrix* cache : {&side->k, &side->v}) got.push_back(cache->host());
    return got;
  }

 private:
  Case c_;
  int64_t T_, blocks_ = 1, pages_ = 0;
  DeviceMatrix x_, cos_sin_;
  DeviceInts<int32_t> q_start_, kv_len_, table_;
  DeviceInts<int64_t> slots_;
  std::vector<std::unique_ptr<Side>> sides_;
  std::vector<DecoderLayer> card_layers_, host_layers_;
  std::vector<float> start_;
  AttentionPlan plan_;
};

double nmse(const std::vector<float>& got, const std::vector<float>& expected, const std::string& what) {
  double off = 0, all = 0;
  EXPECT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(std::isnan(got[i]), std::isnan(expected[i])) << what << " at " << i;
    if (::testing::Test::HasFailure()) return 1;
    if (std::isnan(got[i])) continue;
    off += (double{got[i]} - expected[i]) * (double{got[i]} - expected[i]);
    all += double{expected[i]} * expected[i];
  }
  return off / all;
}

// True when the variant supports the case, which it then must get right.
bool check(const Case& c, CudaMachine& gpu) {
  Scene scene(c);
  const auto& one_kernel = variant_named("persistent_sm90");
  if (!one_kernel.supports(scene.args(true), gpu.context().caps())) return false;
  const auto got = scene.run(one_kernel, gpu), composed = scene.run(variant_named("composition"), gpu);
  const auto again = scene.run(one_kernel, gpu), expected = scene.expected();
  for (size_t i = 0; i < got.size(); ++i) {
    const std::string what = cat(i == 0 ? "x" : i % 2 == 1 ? "k" : "v", " ", i, " of ", text_of(c));
    // Both round what passes from step to step to bf16, at a dozen places a layer, not the same ones.
    const double ours = nmse(got[i], expected[i], what), theirs = nmse(composed[i], expected[i], what);
    EXPECT_LE(ours, 3 * theirs + 1e-6) << what << ", the composition is " << theirs << " off";
    EXPECT_LE(ours, 6e-5 * static_cast<double>(c.layers)) << what;
    if (::testing::Test::HasFailure()) return true;
    for (size_t j = 0; j < got[i].size(); ++j) {
      if (std::isnan(got[i][j])) continue;
      EXPECT_EQ(got[i][j], again[i][j]) << what << ": a second run differs at " << j;
      if (::testing::Test::HasFailure()) return true;
    }
  }
  return true;
}

bool on_hopper() { return cuda::device_properties(0).arch() == 90; }

// Letters carry tags that go on from launch to launch, and every launch finds the former's.
TEST_F(CudaDecoderLayers, OneLaunchAfterTheOther) {
  if (!on_hopper()) GTEST_SKIP() << "persistent_sm90 needs compute capability 9.0";
  CudaMachine gpu(DType::bf16);
  Scene small({256, 512, 8, 4, 64, 3, {200}}), large({1024, 2048, 8, 2, 128, 5, {77}});
  const auto& one_kernel = variant_named("persistent_sm90");
  const auto first_small = small.run(one_kernel, gpu), first_large = large.run(one_kernel, gpu);
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(small.run(one_kernel, gpu)[0], first_small[0]) << i;
    ASSERT_EQ(large.run(one_kernel, gpu)[0], first_large[0]) << i;
  }
}

TEST_F(CudaDecoderLayers, HeadsOfEveryKind) {
  if (!on_hopper()) GTEST_SKIP() << "persistent_sm90 needs compute capability 9.0";
  CudaMachine gpu(DType::bf16);
  for (const auto& [H, Hkv, D] :
       {std::tuple<int, int, int>{8, 1, 64}, {6, 2, 128}, {4, 4, 128}, {16, 2, 128}, {3, 3, 64}})
    for (const bool extras : {false, true}) {
      const Case c{320, 416, H, Hkv, D, 2, {200}, 0, extras, extras};
      EXPECT_TRUE(check(c, gpu)) << text_of(c);
    }
}

TEST_F(CudaDecoderLayers, LengthsAroundEveryBorder) {
  if (!on_hopper()) GTEST_SKIP() << "persistent_sm90 needs compute capability 9.0";
  CudaMachine gpu(DType::bf16);
  for (const int keys : {1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 257, 1000, 2000, 4097})
    for (const int window : {0, 1, 40, 128}) {
      const Case c{256, 256, 6, 2, 128, 1, {keys}, window};
      EXPECT_TRUE(check(c, gpu)) << text_of(c);
    }
}

TEST_F(CudaDecoderLayers, LargeShapes) {
  if (!on_hopper()) GTEST_SKIP() << "persistent_sm90 needs compute capability 9.0";
  CudaMachine gpu(DType::bf16);
  EXPECT_TRUE(check({4096, 11008, 32, 32, 128, 1, {130}}, gpu));
  EXPECT_TRUE(check({3072, 8192, 24, 8, 128, 1, {300}}, gpu));
  EXPECT_TRUE(check({4096, 14336, 32, 8, 128, 1, {600}}, gpu));
}

// What it does not serve it must refuse.
TEST_F(CudaDecoderLayers, RefusesWhatItCannotDo) {
  if (!on_hopper()) GTEST_SKIP() << "persistent_sm90 needs compute capability 9.0";
  CudaMachine gpu(DType::bf16);
  const auto supports = [&](const Case& c) {
    Scene scene(c);
    return variant_named("persistent_sm90").supports(scene.args(true), gpu.context().caps());
  };
  EXPECT_TRUE(supports({256, 256, 4, 2, 64, 1, {9}}));
  EXPECT_FALSE(supports({256, 256, 4, 2, 96, 1, {9}}));
  EXPECT_FALSE(supports({256, 256, 32, 2, 64, 1, {9}}));
  EXPECT_FALSE(supports({264, 256, 4, 2, 64, 1, {9}}));
  EXPECT_FALSE(supports({256, 256, 4, 2, 64, 1, {9, 8}}));
}

}  // namespace
}  // namespace llamita
