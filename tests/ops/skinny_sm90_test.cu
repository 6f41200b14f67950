// The skinny Hopper product in every cut it can take, on ragged shapes, against the CPU's reference. A result
// is the same bits in every run, whatever order blocks finish in.
#include <algorithm>
#include <cmath>

#include "ops/activation/activation.h"
#include "ops/attn_in/attn_in.h"
#include "ops/cuda_test_support.h"
#include "ops/linear/linear.h"
#include "ops/linear/skinny_sm90.h"
#include "ops/mlp_in/mlp_in.h"

namespace llamita {
namespace {

using test::CudaMachine;
using test::DeviceMatrix;
using test::Machine;
using CudaSkinny = test::GpuTest;

constexpr float kScale = 0.1f;

enum class Kind { element, f32, in_place, gated, activated, prepares };

struct Case {
  int64_t M, N, K;
  DType element;
  Kind kind;
  bool bias;
  Activation activation = Activation::silu;  // gated and activated
};

std::vector<float> product(const DeviceMatrix& x, const quant::Weight& weight, const Tensor& bias, int64_t M,
                           Machine& cpu) {
  DeviceMatrix& rows = const_cast<DeviceMatrix&>(x);
  std::vector<float> out(static_cast<size_t>(M * weight.rows()));
  test::run_reference(linear_op(),
                      {rows.host_tensor(), &weight, bias, {}, Tensor::of(out.data(), {M, weight.rows()})},
                      cpu.context());
  return out;
}

void check(const Case& c, CudaMachine& gpu, Machine& cpu) {
  const bool gated = c.kind == Kind::gated;
  const bool activated = gated || c.kind == Kind::activated, prepares = c.kind == Kind::prepares;
  const bool in_place = prepares || c.kind == Kind::in_place;
  const DType out_type = c.kind == Kind::element || activated ? c.element : DType::f32;
  quant::Weight weight, up;
  weight.cols = up.cols = c.K;
  weight.parts.push_back(test::random_part(c.element, c.N, c.K, 11));
  up.parts.push_back(test::random_part(c.element, c.N, c.K, 12));
  const quant::Weight there = test::to_device(weight), up_there = test::to_device(up);
  DeviceMatrix x(c.M, c.K, c.element), bias(1, c.N, DType::f32, 0), bias_up(1, c.N, DType::f32, 0),
      out(c.M, c.N, out_type);
  x.fill_normal(1, kScale);
  bias.fill_normal(2);
  bias_up.fill_normal(4);
  out.fill_normal(3);
  const std::vector<float> before = out.host();
  std::vector<float> expected = product(x, weight, c.bias ? bias.host_vector() : Tensor{}, c.M, cpu);
  if (activated) test::activate(c.activation, expected);
  if (gated) {
    const std::vector<float> ups = product(x, up, c.bias ? bias_up.host_vector() : Tensor{}, c.M, cpu);
    for (size_t i = 0; i < expected.size(); ++i) expected[i] *= ups[i];
  }
  if (in_place)
    for (size_t i = 0; i < expected.size(); ++i) expected[i] += before[i];

  SkinnySm90 g{};
  g.x = x.tensor().data();
  g.w = there.parts[0].storage.data();
  g.w_up = gated ? up_there.parts[0].storage.data() : nullptr;
  g.element = c.element;
  g.M = static_cast<int>(c.M), g.N = static_cast<int>(c.N), g.K = static_cast<int>(c.K);
  g.x_stride = x.tensor().stride(0);
  g.bias = c.bias ? bias.vector().ptr<float>() : nullptr;
  g.bias_up = c.bias && gated ? bias_up.vector().ptr<float>() : nullptr;
  if (activated) g.activation = c.activation;
  g.out = out.tensor().data();
  g.out_dtype = out_type;
  g.out_stride = out.tensor().stride(0);
  if (in_place) g.residual = g.out, g.residual_stride = g.out_stride;
  DeviceMatrix gain(1, c.N, DType::f32, 0), scaled(c.M, c.N, c.element, 0),
      squares(norm_runs(c.N), c.M, DType::f32, 0);
  gain.fill_normal(5);
  std::vector<float> scaled_expected(expected.size()),
      squares_expected(static_cast<size_t>(norm_runs(c.N) * c.M));
  if (prepares) {
    prepare_norm(Tensor::of(expected.data(), {c.M, c.N}), gain.host_vector(),
                 {Tensor::of(scaled_expected.data(), {c.M, c.N}),
                  Tensor::of(squares_expected.data(), {norm_runs(c.N), c.M})});
    for (float& value : scaled_expected) value *= norm_share(c.element);
    g.prepares = true;
    g.next_gain = gain.vector().ptr<float>();
    g.next_scaled = scaled.tensor().data();
    g.next_squares = squares.tensor().ptr<float>();
  }
  const int rows = gated ? 2 * g.N : g.N;
  for (const SkinnyPlan& plan : skinny_sm90_plans(g.M, rows, g.K, gpu.context().caps())) {
    const std::string what = cat(c.M, " x ", c.N, " x ", c.K, " in ", plan.tile_rows, " / ", plan.split, " ",
                                 name(c.element), " kind ", static_cast<int>(c.kind), " bias ", c.bias);
    std::vector<float> first, first_squares;
    for (int run = 0; run < 2; ++run) {
      if (in_place)
        out.fill(before);
      else
        out.poison();
      skinny_sm90(g, plan, gpu.context());
      const std::vector<float> got = out.read();
      if (run == 0) {
        first = got;
        test::expect_close(got, expected, out_type == DType::f32 ? 1e-9 : test::nmse_bound(out_type), what);
      }
      EXPECT_EQ(got, first) << what << ", run " << run;
      if (!prepares) continue;
      const std::vector<float> sums = squares.read();
      if (run == 0) first_squares = sums;
      EXPECT_EQ(sums, first_squares) << what << ", run " << run;
      test::expect_close(sums, squares_expected, 1e-9, "squares of " + what);
      test::expect_close(scaled.read(), scaled_expected, test::nmse_bound(c.element), "scaled of " + what);
      squares.poison();
      scaled.poison();
    }
  }
}

TEST_F(CudaSkinny, EveryCutOnRaggedShapes) {
  if (CudaMachine::caps_of(DType::bf16).arch != 90) GTEST_SKIP() << "needs compute capability 9.0";
  Machine cpu(1, cpu::Isa::generic);
  for (const DType type : {DType::bf16, DType::f16}) {
    CudaMachine gpu(type);
    check({64, 520, 1096, type, Kind::element, true}, gpu, cpu);
    check({61, 264, 2056, type, Kind::in_place, false}, gpu, cpu);
    check({128, 136, 1032, type, Kind::f32, true}, gpu, cpu);
    check({77, 1000, 520, type, Kind::element, false}, gpu, cpu);
    check({12, 72, 3080, type, Kind::in_place, true}, gpu, cpu);
    check({30, 37, 1032, type, Kind::f32, true}, gpu, cpu);
    check({64, 200, 1096, type, Kind::gated, true}, gpu, cpu);
    check({128, 1000, 520, type, Kind::gated, false}, gpu, cpu);
    check({5, 71, 584, type, Kind::gated, true}, gpu, cpu);
    check({64, 520, 1096, type, Kind::activated, true, Activation::gelu_tanh}, gpu, cpu);
    check({128, 136, 520, type, Kind::activated, false, Activation::quick_gelu}, gpu, cpu);
    check({29, 71, 584, type, Kind::activated, true, Activation::gelu}, gpu, cpu);
  }
}

// A token has one block that knows its whole sums, in any cut.
TEST_F(CudaSkinny, EveryCutPreparesTheNormThatFollows) {
  if (CudaMachine::caps_of(DType::bf16).arch != 90) GTEST_SKIP() << "needs compute capability 9.0";
  Machine cpu(1, cpu::Isa::generic);
  for (const DType type : {DType::bf16, DType::f16}) {
    CudaMachine gpu(type);
    for (const int64_t M : {1, 8, 12, 30, 61, 64, 128})
      check({M, 576, 1096, type, Kind::prepares, M != 12}, gpu, cpu);
    check({64, 64, 2056, type, Kind::prepares, false}, gpu, cpu);
    check({3, 1088, 520, type, Kind::prepares, false}, gpu, cpu);
  }
}

// Small enough for compute-sanitizer: parts of K, tiles that end the tokens, the norm of a whole run.
TEST_F(CudaSkinny, EveryCutOfASmallProduct) {
  if (CudaMachine::caps_of(DType::bf16).arch != 90) GTEST_SKIP() << "needs compute capability 9.0";
  Machine cpu(1, cpu::Isa::generic);
  CudaMachine gpu(DType::bf16);
  check({12, 128, 1032, DType::bf16, Kind::prepares, true}, gpu, cpu);
  check({60, 128, 1032, DType::bf16, Kind::gated, true}, gpu, cpu);
}

// What f16 has no room for is cut, not made infinite; rows around 2^-10 lose bits, not themselves.
TEST_F(CudaSkinny, APreparedNormInF16KeepsLargeAndSmallRows) {
  if (CudaMachine::caps_of(DType::bf16).arch != 90) GTEST_SKIP() << "needs compute capability 9.0";
  constexpr int64_t M = 4, N = 64, K = 64;
  CudaMachine gpu(DType::f16);
  quant::Weight weight;
  weight.cols = K;
  weight.parts.push_back(test::random_part(DType::f16, N, K, 11));
  const quant::Weight there = test::to_device(weight);
  DeviceMatrix x(M, K, DType::f16), stream(M, N, DType::f32, 0), gain(1, N, DType::f32, 0),
      scaled(M, N, DType::f16, 0), squares(norm_runs(N), M, DType::f32, 0);
  x.fill(std::vector<float>(M * K, 0.0f));
  gain.fill(std::vector<float>(N, 2.0f));
  const float sizes[M] = {3e7f, 1e4f, 1.0f, 1e-3f};  // of a row; signs alternate
  std::vector<float> rows;
  for (const float size : sizes)
    for (int64_t n = 0; n < N; ++n) rows.push_back(n % 2 == 0 ? size : -size);
  stream.fill(rows);
  const LinearArgs args{x.tensor(),
                        &there,
                        {},
                        stream.tensor(),
                        stream.tensor(),
                        gain.vector(),
                        {scaled.tensor(), squares.tensor()}};
  const int variants = test::for_variants<LinearArgs>(linear_op(), args, gpu, [&](std::string_view variant) {
    EXPECT_EQ(stream.read(), rows) << variant;
    const std::vector<float> got = scaled.read();
    for (size_t i = 0; i < rows.size(); ++i) {
      const float wanted = std::clamp(rows[i] * 2 / 16, -65504.0f, 65504.0f);
      EXPECT_NEAR(got[i], wanted, std::max(std::abs(wanted) / 2048, 3.0e-8f)) << variant << " " << i;
    }
  });
  EXPECT_GE(variants, 1);
}

// The blocks of a decode step of few tokens share their norms, whatever the model: five kernels a layer.
// Needs no card.
TEST(SharedNormChoice, OfEveryProductUpToEightTokensOnHopper) {
  struct Shape {
    int64_t C, F, heads, kv_heads, D;
  };
  const Shape shapes[] = {{2048, 8192, 32, 8, 64},     // Llama-3.2-1B
                          {3072, 8192, 24, 8, 128},    // Llama-3.2-3B
                          {4096, 14336, 32, 8, 128},   // Llama-3.1-8B
                          {896, 4864, 14, 2, 64},      // Qwen2.5-0.5B
                          {2048, 11008, 16, 2, 128}};  // Qwen2.5-3B
  const Device device{DeviceKind::cuda, 0};
  const auto shape_only = [&](DType dtype, std::initializer_list<int64_t> dims) {
    return Tensor(nullptr, dtype, dims, device);
  };
  const auto check_shape = [&](const Shape& shape, DType type) {
    const auto& [C, F, heads, kv_heads, D] = shape;
    Caps caps;
    caps.device = DeviceKind::cuda;
    caps.activation = type;
    caps.arch = 90;
    caps.sm_count = 132;
    Arena arena;
    const Context context(arena, caps);
    const auto weight = [&](int64_t cols, std::initializer_list<int64_t> parts) {
      quant::Weight made;
      made.cols = cols;
      for (const int64_t rows : parts)
        made.parts.push_back({.name = "w", .format = type, .rows = rows, .storage = {}});
      return made;
    };
    const quant::Weight qkv = weight(C, {(heads + 2 * kv_heads) * D}), in = weight(C, {F, F}),
                        out = weight(heads * D, {C}), down = weight(F, {C});
    const Tensor gain = shape_only(DType::f32, {C});
    const Tensor pages = shape_only(type, {8, kv_heads, kPageTokens, D});
    for (int64_t T = 1; T <= 8; ++T) {
      const Tensor x = shape_only(DType::f32, {T, C});
      const PreparedNorm norm = prepared_norm_shape(x, caps);
      const std::string what = cat(C, " columns, ", T, " tokens, ", name(type));
      const auto product = [&](const quant::Weight& by) {
        return LinearArgs{shape_only(type, {T, by.cols}), &by, {}, x, x, gain, norm};
      };
      EXPECT_TRUE(takes_prepared_norm(linear_op(), product(out), context)) << what;
      EXPECT_TRUE(takes_prepared_norm(linear_op(), product(down), context)) << what;
      AttnInArgs attn_in;
      attn_in.x = x;
      attn_in.norm_weight = gain;
      attn_in.qkv = &qkv;
      attn_in.cos_sin = shape_only(DType::f32, {T, D});
      attn_in.kv_slot = shape_only(DType::i64, {T});
      attn_in.k_cache = attn_in.v_cache = pages;
      attn_in.q = shape_only(type, {T, heads, D});
      attn_in.prepared = norm;
      EXPECT_TRUE(takes_prepared_norm(attn_in_op(), attn_in, context)) << what;
      MlpInArgs mlp_in;
      mlp_in.x = x;
      mlp_in.norm_weight = gain;
      mlp_in.in = &in;
      mlp_in.activation = Activation::silu;
      mlp_in.gated = true;
      mlp_in.out = shape_only(type, {T, F});
      mlp_in.prepared = norm;
      EXPECT_TRUE(takes_prepared_norm(mlp_in_op(), mlp_in, context)) << what;
    }
  };
  for (const Shape& shape : shapes)
    for (const DType type : {DType::bf16, DType::f16}) check_shape(shape, type);
}

}  // namespace
}  // namespace llamita
