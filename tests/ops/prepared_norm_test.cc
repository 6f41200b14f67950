// A norm in two halves on the CPU: the reference of linear prepares it, attn_in and mlp_in finish it, and the
// results are those of the norm; only variants that say so take one.
#include "ops/norm/prepared_norm.h"

#include "ops/attn_in/attn_in.h"
#include "ops/linear/linear.h"
#include "ops/mlp_in/mlp_in.h"
#include "ops/op_test_support.h"
#include "support/forced_kernels.h"

namespace llamita {
namespace {

using test::ForcedKernels;
using test::Machine;
using test::Matrix;

constexpr float kEps = 1e-3f;  // large enough to be seen

// What a product leaves beside its out (T, C).
struct Halves {
  Halves(int64_t T, int64_t C)
      : scaled(T * C, test::kNan), squares(norm_runs(C) * T, test::kNan), T(T), C(C) {}
  PreparedNorm norm() {
    return {Tensor::of(scaled.data(), {T, C}), Tensor::of(squares.data(), {norm_runs(C), T})};
  }
  std::vector<float> scaled, squares;
  int64_t T, C;
};

quant::Weight weight_of(std::initializer_list<int64_t> parts, int64_t cols) {
  quant::Weight weight;
  weight.cols = cols;
  for (const int64_t rows : parts) weight.parts.push_back(test::random_part(DType::f32, rows, cols, rows));
  return weight;
}

Tensor row_of(Matrix& m) { return Tensor(m.row(0), DType::f32, {m.cols}); }

template <class Args>
const Variant<Args>& variant_of(const Op<Args>& op, std::string_view name) {
  for (const Variant<Args>& variant : op.variants)
    if (variant.name == name) return variant;
  throw std::logic_error("no such variant");
}

// The residual stream after a product with its prepared norm: T rows of C, a last run that is not whole.
struct Stream {
  static constexpr int64_t T = 5, C = 200, K = 40;

  Stream() : x(T, K, 3), out(T, C, 5), plain(T, C, 5), gain(1, C), weight(weight_of({C}, K)), halves(T, C) {
    test::fill_normal(x, 1);
    test::fill_normal(out, 2, 3);
    test::fill_normal(gain, 3);
    plain = out;
    Machine cpu(1, cpu::Isa::generic);
    const Variant<LinearArgs>& reference = variant_of(linear_op(), "reference");
    reference.run({x.tensor(), &weight, {}, plain.tensor(), plain.tensor()}, cpu.context());
    const LinearArgs args{x.tensor(), &weight, {}, out.tensor(), out.tensor(), row_of(gain), halves.norm()};
    linear_op().check(args);
    reference.run(args, cpu.context());
  }

  Matrix x, out, plain, gain;
  quant::Weight weight;
  Halves halves;
};

TEST(PreparedNorm, LinearLeavesScaledRowsAndTheSquaresOfEachRun) {
  Stream s;
  for (int64_t t = 0; t < s.T; ++t) {
    for (int64_t c = 0; c < s.C; ++c) {
      ASSERT_EQ(s.out.row(t)[c], s.plain.row(t)[c]) << t << " " << c;
      ASSERT_EQ(s.halves.scaled[static_cast<size_t>(t * s.C + c)], s.out.row(t)[c] * s.gain.row(0)[c]);
    }
    for (int64_t run = 0; run < norm_runs(s.C); ++run) {
      double squares = 0;
      for (int64_t c = run * kNormRun; c < std::min((run + 1) * kNormRun, s.C); ++c)
        squares += double{s.out.row(t)[c]} * s.out.row(t)[c];
      ASSERT_NEAR(s.halves.squares[static_cast<size_t>(run * s.T + t)], squares, 1e-6 * squares)
          << t << " " << run;
    }
  }
}

TEST(PreparedNorm, MlpInOfItIsMlpInOfTheStream) {
  Stream s;
  const int64_t F = 48;
  const quant::Weight in = weight_of({F, F}, s.C);
  Matrix bias(1, 2 * F), expected(s.T, F), got(s.T, F);
  test::fill_normal(bias, 4);
  MlpInArgs args{.x = s.out.tensor(),
                 .norm_weight = row_of(s.gain),
                 .norm_bias = {},
                 .norm_eps = kEps,
                 .in = &in,
                 .bias = row_of(bias),
                 .out = expected.tensor()};
  const ForcedKernels forced("linear=reference");
  Machine cpu(1, cpu::Isa::generic);
  mlp_in(args, cpu.context());
  test::fill_normal(s.out, 99);  // not read any more
  args.out = got.tensor();
  args.prepared = s.halves.norm();
  mlp_in(args, cpu.context());
  test::Errors errors;
  for (int64_t t = 0; t < s.T; ++t)
    for (int64_t f = 0; f < F; ++f) errors.add(t * F + f, got.row(t)[f], expected.row(t)[f]);
  test::expect_nmse(errors, 1e-12, "mlp_in");
}

TEST(PreparedNorm, AttnInOfItIsAttnInOfTheStream) {
  Stream s;
  const int64_t H = 2, Hkv = 1, D = 16, N = (H + 2 * Hkv) * D;
  const quant::Weight qkv = weight_of({H * D, Hkv * D, Hkv * D}, s.C);
  Matrix bias(1, N), table(s.T, D), q(s.T, H * D), q_expected(s.T, H * D);
  test::fill_normal(bias, 5);
  test::fill_normal(table, 6);
  std::vector<int64_t> slots{3, 9, -1, 0, 63};
  std::vector<float> k(static_cast<size_t>(Hkv * kPageTokens * D), 0.0f), v = k, k_expected = k,
                                                                          v_expected = k;
  const auto cache = [&](std::vector<float>& side) {
    return Tensor::of(side.data(), {1, Hkv, kPageTokens, D});
  };
  AttnInArgs args{.x = s.out.tensor(),
                  .norm_weight = row_of(s.gain),
                  .norm_bias = {},
                  .norm_eps = kEps,
                  .qkv = &qkv,
                  .qkv_bias = row_of(bias),
                  .q_norm = {},
                  .k_norm = {},
                  .cos_sin = table.tensor(),
                  .kv_slot = Tensor::of(slots.data(), {s.T}),
                  .k_cache = cache(k_expected),
                  .v_cache = cache(v_expected),
                  .q = q_expected.tensor().split_last(H)};
  const ForcedKernels forced("linear=reference");
  Machine cpu(1, cpu::Isa::generic);
  attn_in(args, cpu.context());
  test::fill_normal(s.out, 99);  // not read any more
  args.k_cache = cache(k), args.v_cache = cache(v), args.q = q.tensor().split_last(H);
  args.prepared = s.halves.norm();
  attn_in(args, cpu.context());
  test::Errors q_errors, kv_errors;
  for (int64_t t = 0; t < s.T; ++t)
    for (int64_t i = 0; i < H * D; ++i) q_errors.add(t * H * D + i, q.row(t)[i], q_expected.row(t)[i]);
  for (size_t i = 0; i < k.size(); ++i) {
    kv_errors.add(static_cast<int64_t>(i), k[i], k_expected[i]);
    kv_errors.add(static_cast<int64_t>(i), v[i], v_expected[i]);
  }
  test::expect_nmse(q_errors, 1e-12, "q");
  test::expect_nmse(kv_errors, 1e-12, "k and v");
}

TEST(PreparedNorm, OnlyVariantsThatTakeOneRunWithIt) {
  Stream s;
  const LinearArgs args{s.x.tensor(),   &s.weight,      {}, s.out.tensor(), s.out.tensor(),
                        row_of(s.gain), s.halves.norm()};
  // On the CPU only where it is asked for: the reference, which takes one, is what a machine without vector
  // instructions runs, and not for every number of tokens.
  for (const cpu::Isa isa : {cpu::Isa::generic, cpu::detect_isa()}) {
    Machine cpu(1, isa);
    EXPECT_EQ(choose(linear_op(), args, cpu.context()).name, "reference");
    EXPECT_FALSE(takes_prepared_norm(linear_op(), args, cpu.context()));
  }
  {
    const ForcedKernels forced("linear=reference");
    Machine cpu(1, cpu::detect_isa());
    EXPECT_TRUE(takes_prepared_norm(linear_op(), args, cpu.context()));
  }
  const ForcedKernels forced("linear=reference,norm=reference");
  Machine cpu(1, cpu::detect_isa());
  EXPECT_FALSE(takes_prepared_norm(linear_op(), args, cpu.context()));
}

}  // namespace
}  // namespace llamita
