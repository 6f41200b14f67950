// linear, attn_in and mlp_in on a GPU: every variant, ragged and large, against the CPU's reference on the
// same rounded inputs.
#include "ops/attn_in/attn_in.h"
#include "ops/cuda_test_support.h"
#include "ops/linear/linear.h"
#include "ops/mlp_in/mlp_in.h"
#include "support/forced_kernels.h"

namespace llamita {
namespace {

using test::CudaMachine;
using test::DeviceInts;
using test::DeviceMatrix;
using test::Machine;
using CudaLinear = test::GpuTest;

// Weights of one unit each make sums that are large against f16; scale x down.
constexpr float kScale = 0.1f;
// Fused ops and their compositions round what passes from step to step, not only what comes out.
constexpr double kSteps = 2;

struct LinearCase {
  std::vector<std::pair<DType, int64_t>> parts;
  int64_t T, K;
  DType x, out;
  bool bias, residual;
  int64_t gap = 8;
};

quant::Weight weight_of(const std::vector<std::pair<DType, int64_t>>& parts, int64_t K) {
  quant::Weight weight;
  weight.cols = K;
  for (size_t i = 0; i < parts.size(); ++i)
    weight.parts.push_back(
        test::random_part(parts[i].first, parts[i].second, K, static_cast<uint32_t>(17 + i)));
  return weight;
}

// What the product before leaves on the card of rows x (T, C) for an RMS norm.
struct PreparedOnCard {
  PreparedOnCard(const Tensor& x, const Tensor& gain, DType type)
      : scaled(x.dim(0), x.dim(1), type, 0), squares(norm_runs(x.dim(1)), x.dim(0), DType::f32, 0) {
    std::vector<float> rows(static_cast<size_t>(x.elems())),
        sums(static_cast<size_t>(norm_runs(x.dim(1)) * x.dim(0)));
    prepare_norm(x, gain,
                 {Tensor::of(rows.data(), {x.dim(0), x.dim(1)}),
                  Tensor::of(sums.data(), {norm_runs(x.dim(1)), x.dim(0)})});
    for (float& value : rows) value *= norm_share(type);
    scaled.fill(rows);
    squares.fill(sums);
  }
  PreparedNorm norm() const { return {scaled.tensor(), squares.tensor()}; }
  DeviceMatrix scaled, squares;
};

// Runs the case with every variant; returns how many there were.
int check_linear(const LinearCase& c, DType activation, CudaMachine& gpu, Machine& cpu) {
  const quant::Weight weight = weight_of(c.parts, c.K), there = test::to_device(weight);
  const int64_t N = weight.rows();
  DeviceMatrix x(c.T, c.K, c.x, c.gap), bias(1, N, DType::f32), residual(c.T, N, c.out, c.gap),
      out(c.T, N, c.out, c.gap);
  x.fill_normal(1, kScale);
  bias.fill_normal(2);
  residual.fill_normal(3);
  // A kernel may round f32 rows to the activations' type.
  std::vector<float> seen = x.host();
  for (float& value : seen) value = test::rounded(value, c.x == DType::f32 ? activation : c.x);
  const bool rounds = c.x == DType::f32 || is_block(c.parts[0].first) || c.parts[0].first != activation;
  std::vector<float> expected(static_cast<size_t>(c.T * N));
  LinearArgs args{x.tensor(), &there, {}, {}, out.tensor()};
  LinearArgs reference{x.host_tensor(), &weight, {}, {}, Tensor::of(expected.data(), {c.T, N})};
  if (c.bias) {
    args.bias = bias.vector();
    reference.bias = bias.host_vector();
  }
  if (c.residual) {
    args.residual = residual.tensor();
    reference.residual = residual.host_tensor();
  }
  test::run_reference(linear_op(), reference, cpu.context());
  const double bound = rounds                ? test::nmse_bound(activation)
                       : c.out == DType::f32 ? 1e-9
                                             : test::nmse_bound(c.out);
  return test::for_variants<LinearArgs>(linear_op(), args, gpu, [&](std::string_view variant) {
    test::expect_close(out.read(), expected, bound,
                       cat(variant, " T ", c.T, " N ", N, " K ", c.K, " ", name(c.parts[0].first), " x ",
                           name(c.x), " out ", name(c.out), " bias ", c.bias, " residual ", c.residual,
                           " gap ", c.gap, " activation ", name(activation)));
    out.poison();
  });
}

TEST_F(CudaLinear, DenseWeightsOfEveryShape) {
  Machine cpu(1, cpu::Isa::generic);
  for (const DType type : {DType::bf16, DType::f16}) {
    CudaMachine gpu(type);
    for (const int64_t T : {1, 2, 3, 8, 9, 16, 17, 32, 33, 65, 130}) {
      for (const auto& [N, K] :
           {std::pair<int64_t, int64_t>{16, 32}, {1, 8}, {37, 72}, {130, 576}, {144, 264}}) {
        const bool odd = (T + N) % 2 == 1;
        const int variants =
            check_linear({{{type, N}}, T, K, type, odd ? DType::f32 : type, odd, T % 3 != 0}, type, gpu, cpu);
        EXPECT_GE(variants, T <= 32 ? 3 : 2) << T << " " << N << " " << K;
      }
    }
  }
}

TEST_F(CudaLinear, LargeWeightsTakeSeveralTilesABlock) {
  Machine cpu(1, cpu::Isa::generic);
  CudaMachine gpu(DType::bf16);
  for (const int64_t T : {1, 5, 12, 200})
    check_linear({{{DType::bf16, 9001}}, T, 640, DType::bf16, DType::f32, true, true}, DType::bf16, gpu, cpu);
  check_linear({{{DType::bf16, 300}}, 2, 8192, DType::bf16, DType::f32, false, true}, DType::bf16, gpu, cpu);
  check_linear({{{DType::f16, 300}}, 70, 4104, DType::f16, DType::f16, false, true}, DType::f16, gpu, cpu);
}

// Few tiles: blocks share them along K. Many: a block has several.
TEST_F(CudaLinear, SkinnyProductsOfEverySplit) {
  Machine cpu(1, cpu::Isa::generic);
  for (const DType type : {DType::bf16, DType::f16}) {
    CudaMachine gpu(type);
    for (const int64_t T : {9, 16, 24, 64, 77, 128}) {
      const bool odd = T % 2 == 1;
      for (const auto& [N, K] : {std::pair<int64_t, int64_t>{61, 1000}, {2049, 648}, {4100, 200}})
        check_linear({{{type, N}}, T, K, type, odd ? DType::f32 : type, odd, N != 2049}, type, gpu, cpu);
    }
    check_linear({{{type, 17000}}, 40, 136, type, DType::f32, true, false}, type, gpu, cpu);
    check_linear({{{type, 35000}}, 128, 72, type, type, false, true}, type, gpu, cpu);
  }
}

// Batch invariance of the skinny product as far as it goes: the bits of a token do not depend on the others
// while the tile of tokens is the same, and every run gives the same.
TEST_F(CudaLinear, ATokensBitsAreItsOwnInASkinnyTile) {
  CudaMachine gpu(DType::bf16);
  const quant::Weight weight = test::to_device(test::random_weight(DType::bf16, 700, 1096, 1));
  DeviceMatrix x(64, 1096, DType::bf16), many(64, 700, DType::f32), some(35, 700, DType::f32);
  x.fill_normal(1);
  const auto run_skinny = [&](int64_t tokens, const Tensor& out) {
    const LinearArgs args{x.tensor().slice(0, tokens), &weight, {}, {}, out};
    for (const auto& variant : linear_op().variants) {
      if (variant.name != "skinny_sm90" || !variant.supports(args, gpu.context().caps())) continue;
      variant.run(args, gpu.context());
      return true;
    }
    return false;
  };
  if (!run_skinny(64, many.tensor())) GTEST_SKIP() << "skinny_sm90 needs compute capability 9.0";
  std::vector<float> all = many.read();
  all.resize(35 * 700);
  for (int repeat = 0; repeat < 3; ++repeat) {
    some.poison();
    ASSERT_TRUE(run_skinny(35, some.tensor()));
    EXPECT_EQ(some.read(), all);
  }
}

TEST_F(CudaLinear, FusedPartsOfRaggedRows) {
  Machine cpu(1, cpu::Isa::generic);
  CudaMachine gpu(DType::bf16);
  for (const int64_t T : {1, 4, 20, 100})
    check_linear({{{DType::bf16, 50}, {DType::bf16, 17}, {DType::bf16, 1}},
                  T,
                  96,
                  DType::bf16,
                  DType::bf16,
                  true,
                  false},
                 DType::bf16, gpu, cpu);
}

TEST_F(CudaLinear, RowsOfF32AreRounded) {
  Machine cpu(1, cpu::Isa::generic);
  for (const DType type : {DType::bf16, DType::f16}) {
    CudaMachine gpu(type);
    for (const int64_t T : {1, 3, 32, 40})
      check_linear({{{type, 700}}, T, 576, DType::f32, DType::f32, false, false}, type, gpu, cpu);
  }
}

TEST_F(CudaLinear, BlockFormats) {
  Machine cpu(1, cpu::Isa::generic);
  for (const DType type : {DType::bf16, DType::f16}) {
    CudaMachine gpu(type);
    for (const DType format : {DType::q4_0, DType::q4_1, DType::q8_0, DType::q4_k, DType::q6_k}) {
      for (const int64_t T : {1, 4, 8, 13, 31, 90}) {
        const int variants = check_linear(
            {{{format, 75}}, T, 512, type, T % 2 == 1 ? DType::f32 : type, T == 4, T == 8}, type, gpu, cpu);
        EXPECT_GE(variants, T <= 32 ? 3 : 2) << name(format) << " " << T;
      }
      check_linear({{{format, 5000}}, 2, 256, type, DType::f32, false, false}, type, gpu, cpu);
    }
    check_linear({{{DType::q4_k, 40}, {DType::q6_k, 24}, {type, 9}}, 3, 768, type, type, true, false}, type,
                 gpu, cpu);
    check_linear({{{DType::q4_k, 40}, {DType::q6_k, 24}, {type, 9}}, 70, 768, type, type, true, false}, type,
                 gpu, cpu);
  }
}

TEST_F(CudaLinear, WeightsOfTheOtherTypeAndOddStrides) {
  Machine cpu(1, cpu::Isa::generic);
  CudaMachine gpu(DType::bf16);
  // f16 weights are kept: x is rounded to f16, finer than bf16.
  check_linear({{{DType::f16, 33}}, 2, 96, DType::bf16, DType::bf16, false, false}, DType::bf16, gpu, cpu);
  check_linear({{{DType::f16, 33}}, 50, 96, DType::bf16, DType::bf16, false, false}, DType::bf16, gpu, cpu);
  check_linear({{{DType::f32, 33}}, 2, 96, DType::bf16, DType::bf16, false, false}, DType::bf16, gpu, cpu);
  for (const int64_t gap : {1, 3}) {
    check_linear({{{DType::bf16, 33}}, 3, 96, DType::bf16, DType::bf16, true, true, gap}, DType::bf16, gpu,
                 cpu);
    check_linear({{{DType::bf16, 33}}, 40, 96, DType::bf16, DType::bf16, true, true, gap}, DType::bf16, gpu,
                 cpu);
  }
  // K that no vector fits.
  check_linear({{{DType::bf16, 33}}, 3, 37, DType::bf16, DType::bf16, true, true}, DType::bf16, gpu, cpu);
}

TEST_F(CudaLinear, TheResidualMayBeTheOutput) {
  for (const int64_t T : {2, 40}) {
    CudaMachine gpu(DType::bf16);
    const quant::Weight weight = test::to_device(test::random_weight(DType::bf16, 100, 64, 1));
    DeviceMatrix x(T, 64, DType::bf16), stream(T, 100, DType::f32), apart(T, 100, DType::f32);
    x.fill_normal(1);
    stream.fill_normal(2);
    linear({x.tensor(), &weight, {}, stream.tensor(), apart.tensor()}, gpu.context());
    linear({x.tensor(), &weight, {}, stream.tensor(), stream.tensor()}, gpu.context());
    EXPECT_EQ(stream.read(), apart.read());
  }
}

struct AttnInCase {
  int64_t T, C, H, Hkv, D, R;  // R 0: no rotation
  std::vector<DType> formats;  // of q, k, v
  bool bias, qk_norm, layer_norm;
  bool one_piece = false;
  bool prepared = false;
};

void check_attn_in(const AttnInCase& c, DType type, int least_variants) {
  CudaMachine gpu(type);
  Machine cpu(1, cpu::Isa::generic);
  const quant::Weight qkv =
      weight_of({{c.formats[0], c.H * c.D}, {c.formats[1], c.Hkv * c.D}, {c.formats[2], c.Hkv * c.D}}, c.C);
  const quant::Weight there = c.one_piece ? test::to_device_in_one_piece(qkv) : test::to_device(qkv);
  const int64_t N = qkv.rows(), pages = 2;
  DeviceMatrix x(c.T, c.C, DType::f32), norm_weight(1, c.C, DType::f32), norm_bias(1, c.C, DType::f32),
      bias(1, N, DType::f32), q_norm(1, c.D, DType::f32), k_norm(1, c.D, DType::f32),
      table(c.T, std::max<int64_t>(c.R, 2), DType::f32), q(c.T, c.H * c.D, type),
      k_cache(pages * c.Hkv * kPageTokens, c.D, type, 0), v_cache(pages * c.Hkv * kPageTokens, c.D, type, 0);
  x.fill_normal(1, 3);
  norm_weight.fill_normal(2, kScale);
  norm_bias.fill_normal(3, kScale);
  bias.fill_normal(4);
  q_norm.fill_normal(5);
  k_norm.fill_normal(6);
  table.fill_normal(7);
  std::vector<int64_t> slot_values;
  for (int64_t t = 0; t < c.T; ++t) slot_values.push_back(t == 1 ? -1 : (t * 37 + 5) % 128);
  DeviceInts<int64_t> slots(slot_values);

  const auto cache_elems = static_cast<size_t>(pages * c.Hkv * kPageTokens * c.D);
  std::vector<float> k_expected(cache_elems, test::kNan), v_expected(cache_elems, test::kNan),
      q_expected(static_cast<size_t>(c.T * c.H * c.D));
  const auto cache_of = [&](std::vector<float>& v) {
    return Tensor::of(v.data(), {pages, c.Hkv, kPageTokens, c.D});
  };
  AttnInArgs args{.x = x.tensor(),
                  .norm_kind = c.layer_norm ? NormKind::layer : NormKind::rms,
                  .norm_weight = norm_weight.vector(),
                  .norm_bias = {},
                  .norm_eps = 1e-5f,
                  .qkv = &there,
                  .qkv_bias = {},
                  .q_norm = {},
                  .k_norm = {},
                  .cos_sin = {},
                  .kv_slot = slots.tensor(),
                  .k_cache = k_cache.tensor().view({pages, c.Hkv, kPageTokens, c.D}),
                  .v_cache = v_cache.tensor().view({pages, c.Hkv, kPageTokens, c.D}),
                  .q = q.tensor().split_last(c.H)};
  AttnInArgs reference = args;
  reference.x = x.host_tensor();
  reference.norm_weight = norm_weight.host_vector();
  reference.qkv = &qkv;
  reference.kv_slot = slots.host();
  reference.k_cache = cache_of(k_expected);
  reference.v_cache = cache_of(v_expected);
  reference.q = Tensor::of(q_expected.data(), {c.T, c.H, c.D});
  if (c.layer_norm) args.norm_bias = norm_bias.vector(), reference.norm_bias = norm_bias.host_vector();
  if (c.bias) args.qkv_bias = bias.vector(), reference.qkv_bias = bias.host_vector();
  if (c.qk_norm) {
    args.q_norm = q_norm.vector(), reference.q_norm = q_norm.host_vector();
    args.k_norm = k_norm.vector(), reference.k_norm = k_norm.host_vector();
  }
  if (c.R > 0) args.cos_sin = table.tensor(), reference.cos_sin = table.host_tensor();
  const PreparedOnCard prepared(x.host_tensor(), norm_weight.host_vector(), type);
  if (c.prepared) {
    args.prepared = prepared.norm();
    x.poison();
  }
  // The composition, whose linear must not round x to int8 as it does for blocks by default.
  {
    const test::ForcedKernels forced("linear=reference");
    Machine exact(1, cpu::Isa::generic);
    attn_in(reference, exact.context());
  }

  const int variants = test::for_variants<AttnInArgs>(attn_in_op(), args, gpu, [&](std::string_view variant) {
    const std::string what = cat(variant, " T ", c.T, " C ", c.C, " H ", c.H, "/", c.Hkv, " D ", c.D, " R ",
                                 c.R, " ", name(c.formats[0]), " bias ", c.bias, " qk_norm ", c.qk_norm);
    test::expect_close(q.read(), q_expected, kSteps * test::nmse_bound(type), "q of " + what);
    for (auto& [cache, expected] :
         {std::pair<DeviceMatrix*, std::vector<float>*>{&k_cache, &k_expected}, {&v_cache, &v_expected}}) {
      const std::vector<float> got = cache->read();
      test::Errors errors;
      for (size_t i = 0; i < got.size(); ++i) {
        ASSERT_EQ(std::isnan(got[i]), std::isnan((*expected)[i])) << what << ", cache element " << i;
        if (!std::isnan(got[i])) errors.add(static_cast<int64_t>(i), got[i], (*expected)[i]);
      }
      test::expect_nmse(errors, kSteps * test::nmse_bound(type),
                        (cache == &k_cache ? "k of " : "v of ") + what);
      cache->poison();
    }
    q.poison();
  });
  EXPECT_GE(variants, least_variants);
}

TEST_F(CudaLinear, AttnInOfLlamaQwenAndGpt2Shapes) {
  for (const DType type : {DType::bf16, DType::f16}) {
    const std::vector<DType> dense{type, type, type};
    for (const int64_t T : {1, 3, 8}) {
      check_attn_in({T, 576, 9, 3, 64, 64, dense, false, false, false}, type, 2);    // Llama
      check_attn_in({T, 2048, 4, 2, 128, 128, dense, true, false, false}, type, 2);  // Qwen2.5
      check_attn_in({T, 96, 3, 3, 32, 0, dense, true, false, true}, type, 2);        // GPT-2
      check_attn_in({T, 264, 2, 1, 80, 32, dense, false, false, false}, type, 2);    // partly rotated
      check_attn_in({T, 256, 4, 2, 64, 64, dense, false, true, false}, type, 1);     // Qwen3
    }
    check_attn_in({40, 576, 9, 3, 64, 64, dense, true, true, false}, type, 1);
    check_attn_in({9, 96, 3, 1, 24, 12, dense, true, false, false}, type, 1);  // no multiple of 16
    check_attn_in({2, 96, 3, 1, 24, 12, dense, true, false, false}, type, 1);
    check_attn_in({2, 512, 4, 2, 64, 64, {DType::q4_k, DType::q4_k, DType::q6_k}, false, false, false}, type,
                  2);
    check_attn_in({20, 512, 4, 2, 64, 64, {DType::q8_0, DType::q8_0, DType::q8_0}, false, false, false}, type,
                  1);
  }
}

TEST_F(CudaLinear, AttnInOfWeightsInOnePiece) {
  const int least = CudaMachine::caps_of(DType::bf16).arch == 90 ? 2 : 1;
  for (const DType type : {DType::bf16, DType::f16}) {
    const std::vector<DType> dense{type, type, type};
    for (const int64_t T : {2, 9, 17, 33, 64, 100, 128}) {
      check_attn_in({T, 576, 9, 3, 64, 64, dense, false, false, false, true}, type, least);    // SmolLM2
      check_attn_in({T, 1024, 4, 2, 128, 128, dense, true, false, false, true}, type, least);  // Qwen2.5
      check_attn_in({T, 96, 3, 3, 32, 0, dense, true, false, true, true}, type, least);        // GPT-2
    }
    check_attn_in({20, 72, 5, 1, 16, 16, dense, false, false, false, true}, type, least);
    // Rows enough for the skinny product's tiles of 128, a head or the parts of several in each.
    check_attn_in({40, 520, 30, 4, 128, 128, dense, true, false, false, true}, type, least);
    check_attn_in({64, 136, 68, 4, 64, 64, dense, false, false, false, true}, type, least);
    check_attn_in({33, 136, 24, 1, 192, 192, dense, true, false, false, true}, type, least);
  }
}

// Wherever a token's inverse RMS is needed: in tiles of every size, in parts of K, with the last run short.
TEST_F(CudaLinear, AttnInOfAPreparedNorm) {
  if (CudaMachine::caps_of(DType::bf16).arch != 90) GTEST_SKIP() << "needs compute capability 9.0";
  for (const DType type : {DType::bf16, DType::f16}) {
    const std::vector<DType> dense{type, type, type};
    for (const int64_t T : {1, 2, 12, 17, 33, 64, 100, 128}) {
      check_attn_in({T, 576, 9, 3, 64, 64, dense, false, false, false, true, true}, type, 1);
      check_attn_in({T, 1032, 4, 2, 128, 128, dense, true, false, false, true, true}, type, 1);
    }
    check_attn_in({40, 520, 30, 4, 128, 128, dense, true, false, false, true, true}, type, 1);
    check_attn_in({64, 136, 68, 4, 64, 64, dense, false, false, false, true, true}, type, 1);
  }
}

struct MlpInCase {
  int64_t T, C, F;
  DType format;
  Activation activation;
  bool gated, bias;
  bool prepared = false;
};

void check_mlp_in(const MlpInCase& c, DType type, int least_variants) {
  CudaMachine gpu(type);
  const quant::Weight in =
      c.gated ? weight_of({{c.format, c.F}, {c.format, c.F}}, c.C) : weight_of({{c.format, c.F}}, c.C);
  const quant::Weight there = test::to_device(in);
  DeviceMatrix x(c.T, c.C, DType::f32), norm_weight(1, c.C, DType::f32), bias(1, in.rows(), DType::f32),
      out(c.T, c.F, type);
  x.fill_normal(1, 3);
  norm_weight.fill_normal(2, kScale);
  bias.fill_normal(4);
  std::vector<float> expected(static_cast<size_t>(c.T * c.F));
  MlpInArgs args{.x = x.tensor(),
                 .norm_kind = c.gated ? NormKind::rms : NormKind::layer,
                 .norm_weight = norm_weight.vector(),
                 .norm_bias = {},
                 .norm_eps = 1e-5f,
                 .in = &there,
                 .bias = {},
                 .activation = c.activation,
                 .gated = c.gated,
                 .out = out.tensor()};
  MlpInArgs reference = args;
  reference.x = x.host_tensor();
  reference.norm_weight = norm_weight.host_vector();
  reference.in = &in;
  reference.out = Tensor::of(expected.data(), {c.T, c.F});
  if (c.bias) args.bias = bias.vector(), reference.bias = bias.host_vector();
  const PreparedOnCard prepared(x.host_tensor(), norm_weight.host_vector(), type);
  if (c.prepared) {
    args.prepared = prepared.norm();
    x.poison();
  }
  {
    const test::ForcedKernels forced("linear=reference");
    Machine exact(1, cpu::Isa::generic);
    mlp_in(reference, exact.context());
  }
  const int variants = test::for_variants<MlpInArgs>(mlp_in_op(), args, gpu, [&](std::string_view variant) {
    test::expect_close(
        out.read(), expected, kSteps * test::nmse_bound(type),
        cat(variant, " T ", c.T, " C ", c.C, " F ", c.F, " ", name(c.format), " gated ", c.gated, " bias ",
            c.bias, " activation ", static_cast<int>(c.activation), " ", name(type)));
    out.poison();
  });
  EXPECT_GE(variants, least_variants);
}

TEST_F(CudaLinear, MlpInGatedAndNot) {
  for (const DType type : {DType::bf16, DType::f16}) {
    for (const int64_t T : {1, 2, 8}) {
      check_mlp_in({T, 576, 1536, type, Activation::silu, true, false}, type, 2);
      check_mlp_in({T, 72, 37, type, Activation::silu, true, true}, type, 2);
      check_mlp_in({T, 96, 45, type, Activation::gelu_tanh, false, true}, type, 2);
      check_mlp_in({T, 512, 100, DType::q4_k, Activation::silu, true, false}, type, 2);
      check_mlp_in({T, 64, 20, DType::q4_0, Activation::gelu, false, false}, type, 2);
    }
    for (const int64_t T : {9, 31, 64, 128})
      check_mlp_in({T, 584, 1500, type, Activation::silu, true, T == 64}, type, 1);
    check_mlp_in({20, 64, 17000, type, Activation::silu, true, false}, type, 1);
    check_mlp_in({33, 576, 200, type, Activation::silu, true, true}, type, 1);
    check_mlp_in({12, 96, 45, type, Activation::gelu_tanh, false, true}, type, 1);
  }
}

TEST_F(CudaLinear, MlpInOfAPreparedNorm) {
  if (CudaMachine::caps_of(DType::bf16).arch != 90) GTEST_SKIP() << "needs compute capability 9.0";
  for (const DType type : {DType::bf16, DType::f16}) {
    for (const int64_t T : {1, 2, 12, 31, 64, 100, 128}) {
      check_mlp_in({T, 576, 1536, type, Activation::silu, true, false, true}, type, 1);
      check_mlp_in({T, 1032, 72, type, Activation::silu, true, true, true}, type, 1);
    }
    check_mlp_in({64, 584, 17000, type, Activation::silu, true, false, true}, type, 1);
  }
}

// Beside the composition: the skinny product, which takes any stride, and the GEMM in both schedules, which
// wants 16 bytes.
TEST_F(CudaLinear, MlpInActivatesInTheEpilogue) {
  const bool hopper = CudaMachine::caps_of(DType::bf16).arch == 90;
  for (const DType type : {DType::bf16, DType::f16}) {
    for (const Activation kind :
         {Activation::silu, Activation::gelu, Activation::gelu_tanh, Activation::quick_gelu}) {
      for (const int64_t T : {9, 64, 100, 128})
        check_mlp_in({T, 584, 520, type, kind, false, T != 64}, type, hopper ? 4 : 1);
      for (const int64_t T : {130, 300})
        check_mlp_in({T, 96, 1000, type, kind, false, T == 300}, type, hopper ? 3 : 1);
      check_mlp_in({33, 72, 45, type, kind, false, true}, type, hopper ? 2 : 1);
    }
    check_mlp_in({40, 96, 1000, type, Activation::relu, false, true}, type, 1);
  }
}

// What models without gates run: one product, whatever a prompt's length. Needs no card.
TEST(MlpInChoice, OfOneProductOnHopper) {
  Caps caps;
  caps.device = DeviceKind::cuda;
  caps.activation = DType::bf16;
  caps.arch = 90;
  caps.sm_count = 132;
  const Device device{DeviceKind::cuda, 0};
  for (const int64_t C : {768, 1024, 1600}) {
    const int64_t F = 4 * C;
    quant::Weight in;
    in.cols = C;
    in.parts.push_back({.name = "up", .format = DType::bf16, .rows = F, .storage = {}});
    for (const int64_t T : {9, 32, 64, 128, 129, 257, 577, 2048, 16384}) {
      const auto chosen = [&](Activation kind) {
        const MlpInArgs args{.x = Tensor(nullptr, DType::f32, {T, C}, device),
                             .norm_kind = NormKind::layer,
                             .norm_weight = {},
                             .norm_bias = {},
                             .norm_eps = 1e-5f,
                             .in = &in,
                             .bias = {},
                             .activation = kind,
                             .gated = false,
                             .out = Tensor(nullptr, DType::bf16, {T, F}, device)};
        return best_variant(mlp_in_op(), args, caps, "")->name;
      };
      for (const Activation kind : {Activation::gelu, Activation::gelu_tanh, Activation::quick_gelu}) {
        const std::string_view name = chosen(kind);
        EXPECT_TRUE(name == "gemm_sm90" || name == "gemm_sm90_ping_pong" ||
                    (T <= 128 && name == "skinny_sm90"))
            << name << " at T " << T << " C " << C << " activation " << static_cast<int>(kind);
      }
      EXPECT_EQ(chosen(Activation::relu), "cuda_composition");
    }
  }
}

}  // namespace
}  // namespace llamita
