// attn_in and mlp_in, dry runs, and the choice of variants.
#include <algorithm>
#include <cstdlib>

#include "ops/activation/activation.h"
#include "ops/attention/attention.h"
#include "ops/attn_in/attn_in.h"
#include "ops/embedding/embedding.h"
#include "ops/kv_write/kv_write.h"
#include "ops/linear/linear.h"
#include "ops/mlp_in/mlp_in.h"
#include "ops/op_test_support.h"
#include "ops/rope/rope.h"
#include "quant/unpack.h"
#include "support/exact_linear.h"
#include "support/expect_error.h"

namespace llamita {
namespace {

using test::Errors;
using test::Machine;
using test::Matrix;

std::vector<double> norm_of(const float* x, const float* weight, int64_t C, double eps) {
  double squares = 0;
  for (int64_t c = 0; c < C; ++c) squares += double{x[c]} * x[c];
  std::vector<double> out;
  for (int64_t c = 0; c < C; ++c) out.push_back(x[c] / std::sqrt(squares / double(C) + eps) * weight[c]);
  return out;
}

std::vector<double> project(const quant::Weight& weight, const std::vector<double>& x, const float* bias) {
  std::vector<double> out;
  std::vector<float> row(x.size());
  for (int64_t n = 0; n < weight.rows(); ++n) {
    quant::unpack_row(weight, n, row.data());
    double sum = bias[n];
    for (size_t k = 0; k < x.size(); ++k) sum += x[k] * row[k];
    out.push_back(sum);
  }
  return out;
}

struct AttnIn {
  static constexpr int64_t T = 3, C = 64, H = 4, Hkv = 2, D = 16, N = (H + 2 * Hkv) * D;

  AttnIn() : x(T, C), norm(1, C), bias(1, N), head_norm(1, D), table(T, D), q(T, H * D) {
    weight.cols = C;
    weight.parts = {test::random_part(DType::q4_0, H * D, C, 1), test::random_part(DType::f32, Hkv * D, C, 2),
                    test::random_part(DType::q8_0, Hkv * D, C, 3)};
    for (Matrix* m : {&x, &norm, &bias, &head_norm, &table}) test::fill_normal(*m, 9);
    k_cache.assign(2 * Hkv * kPageTokens * D, test::kNan);
    v_cache = k_cache;
  }
  AttnInArgs args(int64_t tokens, bool qk_norm) {
    AttnInArgs args;
    args.x = x.tensor().slice(0, tokens);
    args.norm_weight = Tensor(norm.row(0), DType::f32, {C});
    args.qkv = &weight;
    args.qkv_bias = Tensor(bias.row(0), DType::f32, {N});
    if (qk_norm) args.q_norm = args.k_norm = Tensor(head_norm.row(0), DType::f32, {D});
    args.cos_sin = table.tensor().slice(0, tokens);
    args.kv_slot = Tensor::of(slots.data(), {tokens});
    args.k_cache = Tensor::of(k_cache.data(), {2, Hkv, kPageTokens, D});
    args.v_cache = Tensor::of(v_cache.data(), {2, Hkv, kPageTokens, D});
    args.q = q.tensor().slice(0, tokens).split_last(H);
    return args;
  }
  // Head `head` of q | k | v of token t as the formula has it.
  std::vector<double> expected(int64_t t, int64_t head, bool qk_norm) {
    const auto all = project(weight, norm_of(x.row(t), norm.row(0), C, 1e-5), bias.row(0));
    std::vector<double> out(all.begin() + head * D, all.begin() + (head + 1) * D);
    if (head >= H + Hkv) return out;
    if (qk_norm) {
      std::vector<float> rounded(out.begin(), out.end());
      out = norm_of(rounded.data(), head_norm.row(0), D, 1e-5);
    }
    std::vector<double> rotated(D);
    for (size_t i = 0; i < D / 2; ++i) {
      const double c = table.row(t)[i], s = table.row(t)[D / 2 + i];
      rotated[i] = out[i] * c - out[i + D / 2] * s;
      rotated[i + D / 2] = out[i + D / 2] * c + out[i] * s;
    }
    return rotated;
  }

  quant::Weight weight;
  Matrix x, norm, bias, head_norm, table, q;
  std::vector<int64_t> slots = {5, kPageTokens, kPageTokens + 63};
  std::vector<float> k_cache, v_cache;
};

TEST(AttnIn, QueriesAndCacheHoldTheProjectedNormedRotatedHeads) {
  for (const cpu::Isa isa : test::runnable_isas()) {
    for (const int64_t T : {1, 3}) {
      for (const bool qk_norm : {false, true}) {
        AttnIn scene;
        const test::ExactLinear exact(isa);
        Machine machine(0, isa);
        attn_in(scene.args(T, qk_norm), machine.context());
        Errors errors;
        for (int64_t t = 0; t < T; ++t) {
          for (int64_t head = 0; head < AttnIn::H + 2 * AttnIn::Hkv; ++head) {
            const auto expected = scene.expected(t, head, qk_norm);
            const int64_t slot = scene.slots[size_t(t)], kv = (head - AttnIn::H) % AttnIn::Hkv;
            const int64_t row = (slot / kPageTokens * AttnIn::Hkv + kv) * kPageTokens + slot % kPageTokens;
            const float* got = head < AttnIn::H                 ? scene.q.row(t) + head * AttnIn::D
                               : head < AttnIn::H + AttnIn::Hkv ? scene.k_cache.data() + row * AttnIn::D
                                                                : scene.v_cache.data() + row * AttnIn::D;
            for (size_t d = 0; d < AttnIn::D; ++d)
              errors.add(head * AttnIn::D + int64_t(d), got[d], expected[d]);
          }
        }
        test::expect_nmse(errors, 1e-10, cat(cpu::name(isa), " T ", T, " qk_norm ", qk_norm));
      }
    }
  }
}

TEST(MlpIn, IsNormProjectionAndActivation) {
  constexpr int64_t kT = 3, kC = 64, kF = 40;
  for (const cpu::Isa isa : test::runnable_isas()) {
    for (const bool gated : {true, false}) {
      const int64_t N = gated ? 2 * kF : kF;
      const auto weight = test::random_weight(DType::q8_0, N, kC, 1);
      Matrix x(kT, kC), norm(1, kC), bias(1, N), out(kT, kF);
      for (Matrix* m : {&x, &norm, &bias}) test::fill_normal(*m, 4);
      MlpInArgs args;
      args.x = x.tensor();
      args.norm_weight = Tensor(norm.row(0), DType::f32, {kC});
      args.in = &weight;
      args.bias = Tensor(bias.row(0), DType::f32, {N});
      args.gated = gated;
      args.out = out.tensor();
      const test::ExactLinear exact(isa);
      Machine machine(0, isa);
      mlp_in(args, machine.context());
      Errors errors;
      for (int64_t t = 0; t < kT; ++t) {
        const auto projected = project(weight, norm_of(x.row(t), norm.row(0), kC, 1e-5), bias.row(0));
        for (int64_t f = 0; f < kF; ++f) {
          const double g = projected[size_t(f)], up = gated ? projected[size_t(kF + f)] : 1;
          errors.add(t * kF + f, out.row(t)[f], g / (1 + std::exp(-g)) * up);
        }
      }
      test::expect_nmse(errors, 1e-10, cat(cpu::name(isa), " gated ", gated));
    }
  }
}

Tensor without_data(const Tensor& t) { return t.defined() ? Tensor(nullptr, t.dtype(), t.shape()) : t; }

TEST(DryRun, TakesTheRealPeakOfTheArenaAndRecordsTheSameOps) {
  for (const cpu::Isa isa : test::runnable_isas()) {
    for (const int64_t T : {1, 3}) {
      AttnIn scene;
      const AttnInArgs real = scene.args(T, true);
      AttnInArgs shapes = real;
      for (Tensor* t : {&shapes.x, &shapes.norm_weight, &shapes.qkv_bias, &shapes.q_norm, &shapes.k_norm,
                        &shapes.cos_sin, &shapes.kv_slot, &shapes.k_cache, &shapes.v_cache, &shapes.q}) {
        *t = without_data(*t);
      }
      Arena measuring;
      Context dry(measuring, Machine::caps_of(2, isa));
      std::vector<OpRecord> planned, done;
      dry.record_to(&planned);
      attn_in(shapes, dry);
      EXPECT_EQ(measuring.used(), 0u);

      ThreadPool pool;
      Arena arena(measuring.peak());  // one byte less than needed would be a check failure
      Context context(pool, arena, Machine::caps_of(pool.threads(), isa));
      context.record_to(&done);
      attn_in(real, context);
      EXPECT_EQ(arena.peak(), measuring.peak());
      ASSERT_EQ(planned.size(), done.size());
      for (size_t i = 0; i < done.size(); ++i) {
        EXPECT_EQ(planned[i].op, done[i].op);
        EXPECT_EQ(planned[i].variant, done[i].variant);
        EXPECT_EQ(planned[i].cost.flops, done[i].cost.flops);
        EXPECT_EQ(planned[i].cost.bytes_read, done[i].cost.bytes_read);
      }
    }
  }
}

void expect_scratch_as_said(const quant::Weight& weight) {
  for (const Variant<LinearArgs>& variant : linear_op().variants) {
    Matrix x(5, weight.cols), out(5, weight.rows());
    test::fill_normal(x, 1);
    const LinearArgs args{x.tensor(), &weight, {}, {}, out.tensor()};
    const Caps caps = Machine::caps_of(1, cpu::best_isa());
    if (!variant.supports(args, caps)) continue;
    ThreadPool pool(1);
    Arena measuring, arena(1 << 16);
    measuring.take(DType::u8, {variant.scratch_bytes(args, caps)});
    Context context(pool, arena, caps);
    variant.run(args, context);
    EXPECT_EQ(arena.peak(), measuring.peak()) << variant.name;
  }
}

TEST(DryRun, ScratchOfALinearWhoseRowsAreNoWholeGroups) {
  expect_scratch_as_said(test::random_weight(DType::f32, 9, 37, 1));
}

TEST(DryRun, ScratchOfALinearThatRoundsItsActivationsInBothWays) {
  quant::Weight weight;
  weight.cols = 768;
  weight.parts = {test::random_part(DType::q5_1, 9, 768, 1), test::random_part(DType::q4_k, 9, 768, 2)};
  expect_scratch_as_said(weight);
}

class Forced : public testing::Test {
 protected:
  void TearDown() override { unsetenv("LLAMITA_KERNEL"); }
  void force(const char* text) { setenv("LLAMITA_KERNEL", text, 1); }
};

TEST_F(Forced, TheEnvironmentChoosesVariants) {
  force("norm=reference,linear=reference");
  Machine machine(1, cpu::best_isa());
  EXPECT_EQ(machine.context().forced_variant("linear"), "reference");
  EXPECT_EQ(machine.context().forced_variant("attention"), "");
  const auto weight = test::random_weight(DType::f32, 4, 32, 1);
  Matrix x(1, 32), out(1, 4);
  const LinearArgs args{x.tensor(), &weight, {}, {}, out.tensor()};
  EXPECT_EQ(choose(linear_op(), args, machine.context()).name, "reference");
  force("linear=magic");
  Machine other(1, cpu::best_isa());
  EXPECT_ERROR(choose(linear_op(), args, other.context()),
               "op linear has no variant magic in this build; there are ");
  EXPECT_ERROR(choose(linear_op(), args, other.context()), "reference");
}

TEST_F(Forced, UnknownOpsAndBadSyntaxAreErrorsThatListTheOps) {
  for (const char* text : {"linaer=reference", "linear", "linear=", "=reference"}) {
    force(text);
    EXPECT_ERROR(Machine(1, cpu::Isa::generic), "linear, mlp_in, norm");
  }
}

TEST_F(Forced, TheListKnowsEveryOp) {
  const auto known = [&](std::string_view op) {
    force((std::string(op) + "=reference").c_str());
    Machine machine(1, cpu::Isa::generic);
    EXPECT_EQ(machine.context().forced_variant(op), "reference") << op;
  };
  known(activation_op().name);
  known(attention_op().name);
  known(attn_in_op().name);
  known(embedding_op().name);
  known(kv_write_op().name);
  known(linear_op().name);
  known(mlp_in_op().name);
  known(norm_op().name);
  known(rope_op().name);
  known(rope_table_op().name);
}

TEST(ShapeCheck, NamesTheTensorAndItsAxes) {
  const auto weight = test::random_weight(DType::f32, 4, 32, 1);
  Matrix x(2, 31), out(2, 4);
  EXPECT_DEATH(linear_op().check({x.tensor(), &weight, {}, {}, out.tensor()}),
               "linear: x must be F32 \\(T 2, K 32\\).*got F32 \\(2, 31\\)");
}

}  // namespace
}  // namespace llamita
