// attn_in and mlp_in fused on the CPU: a request's bits are those of the ops they are made of, whatever the
// batch, the formats and the threads.
#include <cstdlib>

#include "ops/attn_in/attn_in.h"
#include "ops/linear/linear.h"
#include "ops/mlp_in/mlp_in.h"
#include "ops/op_test_support.h"
#include "quant/interleave.h"
#include "quant/kv_side.h"

namespace llamita {
namespace {

using test::Machine;
using test::Matrix;

constexpr DType kFormats[] = {DType::f32,  DType::f16,  DType::bf16, DType::q4_0,  DType::q4_1,
                              DType::q5_0, DType::q5_1, DType::q8_0, DType::q2_k,  DType::q3_k,
                              DType::q4_k, DType::q5_k, DType::q6_k, DType::iq4_nl};
constexpr int64_t kTokens[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 512};
// The scalar kernels are cut at the same places at any length, and take seconds for 512 tokens.
bool too_slow(cpu::Isa isa, DType format, int64_t T) {
  return isa == cpu::Isa::generic && T > 17 && format != DType::q4_1;
}

template <class Args>
const Variant<Args>& variant_of(const Op<Args>& op, std::string_view name) {
  for (const Variant<Args>& variant : op.variants) {
    if (variant.name == name) return variant;
  }
  throw Error(cat(op.name, " has no variant ", name));
}

quant::Weight weight_of(const std::vector<std::pair<DType, int64_t>>& parts, int64_t cols, bool interleaved) {
  quant::Weight weight;
  weight.cols = cols;
  for (const auto& [format, rows] : parts) {
    weight.parts.push_back(test::random_part(format, rows, cols, static_cast<uint32_t>(weight.parts.size())));
  }
  return interleaved ? quant::interleaved(weight) : weight;
}

// Everything attn_in reads and writes, the written parts poisoned.
struct AttnInScene {
  struct Shape {
    int64_t C = 256, H = 4, Hkv = 2, D = 24;
    bool qk_norm = true, rope = true, bias = true;
    NormKind norm = NormKind::rms;
    DType cache = DType::f16;
  };

  AttnInScene(const Shape& shape, const quant::Weight& weight, int64_t T)
      : x(T, shape.C, 3),
        norms(4, std::max(shape.C, shape.D)),
        bias(1, weight.rows()),
        table(T, shape.D),
        q(T, shape.H * shape.D) {
    for (Matrix* m : {&x, &norms, &bias, &table}) test::fill_normal(*m, 5);
    for (int64_t t = 0; t < T; ++t) slots.push_back(t % 5 == 3 ? -1 : (t * 37 + 11) % (kPages * kPageTokens));
    const auto cache = [&](std::vector<uint8_t>& bytes) {
      return kv_side(bytes.data(), {shape.cache}, kPages, shape.Hkv, shape.D);
    };
    k.assign(static_cast<size_t>(kv_side_bytes(cache(k))), 0xff);
    v = k;
    const auto vector = [&](int64_t row, int64_t n) { return Tensor(norms.row(row), DType::f32, {n}); };
    args.x = x.tensor();
    args.norm_kind = shape.norm;
    args.norm_weight = vector(0, shape.C);
    if (shape.norm == NormKind::layer) args.norm_bias = vector(1, shape.C);
    args.qkv = &weight;
    if (shape.bias) args.qkv_bias = Tensor(bias.row(0), DType::f32, {weight.rows()});
    if (shape.qk_norm) args.q_norm = vector(2, shape.D), args.k_norm = vector(3, shape.D);
    if (shape.rope) args.cos_sin = table.tensor().columns(0, shape.D / 2 / 2 * 2);
    args.kv_slot = Tensor::of(slots.data(), {T});
    args.k_cache = cache(k), args.v_cache = cache(v);
    args.q = q.tensor().split_last(shape.H);
  }

  bool same(const AttnInScene& other) const {
    return k == other.k && v == other.v &&
           std::memcmp(q.data.data(), other.q.data.data(), q.data.size() * sizeof(float)) == 0;
  }

  static constexpr int64_t kPages = 9;
  Matrix x, norms, bias, table, q;
  std::vector<int64_t> slots;
  std::vector<uint8_t> k, v;
  AttnInArgs args;
};

constexpr size_t kArena = size_t{1} << 24;

class FusedOnCpu : public testing::TestWithParam<cpu::Isa> {
 protected:
  void SetUp() override {
    if (GetParam() > cpu::best_isa()) GTEST_SKIP() << "this machine lacks " << cpu::name(GetParam());
  }

  void expect_attn_in_as_composed(const AttnInScene::Shape& shape, const quant::Weight& weight,
                                  const std::string& what) {
    const DType format = weight.parts[0].format;
    Machine one(1, GetParam(), kArena), all(0, GetParam(), kArena);
    for (const int64_t T : kTokens) {
      if (too_slow(GetParam(), format, T)) continue;
      AttnInScene composed(shape, weight, T);
      variant_of(attn_in_op(), "composition").run(composed.args, one.context());
      for (Machine* machine : {&one, &all}) {
        AttnInScene fused(shape, weight, T);
        const Variant<AttnInArgs>& variant = variant_of(attn_in_op(), "cpu");
        if (!variant.supports(fused.args, machine->context().caps())) return;
        variant.run(fused.args, machine->context());
        ASSERT_TRUE(fused.same(composed)) << what << " T " << T;
        ++compared_;
      }
    }
  }
  int compared_ = 0;
};

TEST_P(FusedOnCpu, AttnInGivesTheBitsOfItsOpsInEveryFormat) {
  for (const DType format : kFormats) {
    AttnInScene::Shape shape;
    const std::vector<std::pair<DType, int64_t>> parts = {
        {format, shape.H * shape.D}, {format, shape.Hkv * shape.D}, {format, shape.Hkv * shape.D}};
    for (const bool interleaved : {false, true}) {
      if (interleaved && !quant::can_interleave(format, shape.D)) continue;
      expect_attn_in_as_composed(shape, weight_of(parts, shape.C, interleaved),
                                 cat(name(format), interleaved ? " interleaved" : ""));
    }
  }
  EXPECT_GT(compared_, 0);
}

TEST_P(FusedOnCpu, AttnInGivesThemInEveryShapeOfModel) {
  for (const DType cache : {DType::f32, DType::f16, DType::bf16, DType::i8}) {
    // Heads of whole units, of one and a half, and smaller than a unit; one part for all, as GPT-2 has it; a
    // width that is no whole group of 32.
    for (const auto& [C, D] : {std::pair<int64_t, int64_t>{256, 64}, {64, 8}, {50, 48}}) {
      AttnInScene::Shape shape{.C = C, .D = D, .cache = cache};
      shape.qk_norm = cache == DType::bf16;
      shape.bias = cache != DType::f32;
      const int64_t N = (shape.H + 2 * shape.Hkv) * D, kv = shape.Hkv * D;
      expect_attn_in_as_composed(
          shape, weight_of({{DType::f32, shape.H * D}, {DType::bf16, kv}, {DType::f16, kv}}, C, false),
          "apart");
      shape.rope = false, shape.norm = NormKind::layer;
      expect_attn_in_as_composed(shape, weight_of({{DType::f16, N}}, C, false), "in one part");
      if (C % 32 != 0) continue;
      expect_attn_in_as_composed(
          shape, weight_of({{DType::q4_0, shape.H * D}, {DType::q8_0, kv}, {DType::f32, kv}}, C, false),
          "mixed");
    }
  }
}

// The same for mlp_in.
struct MlpInScene {
  MlpInScene(const quant::Weight& weight, int64_t T, int64_t F, Activation activation, bool bias)
      : x(T, weight.cols), norms(2, weight.cols), b(1, weight.rows()), out(T, F, 5) {
    for (Matrix* m : {&x, &norms, &b}) test::fill_normal(*m, 6);
    args.x = x.tensor();
    args.norm_weight = Tensor(norms.row(0), DType::f32, {weight.cols});
    if (bias) {
      args.norm_kind = NormKind::layer;
      args.norm_bias = Tensor(norms.row(1), DType::f32, {weight.cols});
      args.bias = Tensor(b.row(0), DType::f32, {weight.rows()});
    }
    args.in = &weight;
    args.activation = activation;
    args.gated = weight.rows() == 2 * F;
    args.out = out.tensor();
  }
  Matrix x, norms, b, out;
  MlpInArgs args;
};

TEST_P(FusedOnCpu, MlpInGivesTheBitsOfItsOps) {
  constexpr int64_t kC = 256, kF = 104;
  constexpr Activation kActivations[] = {Activation::silu, Activation::gelu, Activation::gelu_tanh,
                                         Activation::quick_gelu, Activation::relu};
  Machine one(1, GetParam(), kArena), all(0, GetParam(), kArena);
  int scene = 0, compared = 0;
  for (const DType format : kFormats) {
    const DType other = is_block(format) ? DType::q8_0 : format;
    for (const auto& parts :
         {std::vector<std::pair<DType, int64_t>>{{format, kF}, {other, kF}}, {{format, kF}}}) {
      for (const bool interleaved : {false, true}) {
        if (interleaved && !is_block(format)) continue;
        const quant::Weight weight = weight_of(parts, kC, interleaved);
        for (const int64_t T : kTokens) {
          if (too_slow(GetParam(), format, T)) continue;
          const Activation activation = kActivations[scene++ % 5];
          MlpInScene composed(weight, T, kF, activation, scene % 2 == 0);
          variant_of(mlp_in_op(), "composition").run(composed.args, one.context());
          for (Machine* machine : {&one, &all}) {
            MlpInScene fused(weight, T, kF, activation, scene % 2 == 0);
            const Variant<MlpInArgs>& variant = variant_of(mlp_in_op(), "cpu");
            if (!variant.supports(fused.args, machine->context().caps())) continue;
            variant.run(fused.args, machine->context());
            ASSERT_EQ(std::memcmp(fused.out.data.data(), composed.out.data.data(),
                                  fused.out.data.size() * sizeof(float)),
                      0)
                << name(format) << (interleaved ? " interleaved" : "") << " T " << T << " gated "
                << fused.args.gated;
            ++compared;
          }
        }
      }
    }
  }
  EXPECT_GT(compared, 0);
}

TEST_P(FusedOnCpu, GateAndUpInOnePartAreLeftToTheOps) {
  const quant::Weight weight = test::random_weight(DType::q8_0, 80, 64, 1);
  MlpInScene scene(weight, 3, 40, Activation::silu, false);
  Machine machine(0, GetParam());
  EXPECT_EQ(choose(mlp_in_op(), scene.args, machine.context()).name, "composition");
  mlp_in(scene.args, machine.context());
}

TEST_P(FusedOnCpu, ScratchIsWhatItSays) {
  const AttnInScene::Shape shape;
  const int64_t kv = shape.Hkv * shape.D;
  for (const DType format : {DType::f32, DType::q4_0, DType::q4_k}) {
    for (const int64_t T : {1, 13}) {
      const quant::Weight qkv =
          weight_of({{format, shape.H * shape.D}, {format, kv}, {format, kv}}, 256, false);
      const quant::Weight in = weight_of({{format, 40}, {DType::q8_0, 40}}, 256, false);
      const auto expect = [&](const auto& op, const auto& args) {
        const auto& variant = variant_of(op, "cpu");
        const Caps caps = Machine::caps_of(2, GetParam());
        if (!variant.supports(args, caps)) return;
        ThreadPool pool(2);
        Arena measuring, arena(kArena);
        measuring.take(DType::u8, {variant.scratch_bytes(args, caps)});
        Context context(pool, arena, caps);
        variant.run(args, context);
        EXPECT_EQ(arena.peak(), measuring.peak()) << op.name << " " << name(format) << " T " << T;
      };
      AttnInScene attn(shape, qkv, T);
      expect(attn_in_op(), attn.args);
      MlpInScene mlp(in, T, 40, Activation::silu, true);
      expect(mlp_in_op(), mlp.args);
    }
  }
}

// LLAMITA_KERNEL=linear=... holds inside of fused ops too: they step back for the ops they are made of.
TEST_P(FusedOnCpu, AForcedOpIsForcedInsideToo) {
  const quant::Weight weight = weight_of({{DType::q8_0, 40}, {DType::q8_0, 40}}, 64, false);
  MlpInScene scene(weight, 3, 40, Activation::silu, false);
  const auto chosen = [&](const char* forced) {
    setenv("LLAMITA_KERNEL", forced, 1);
    Machine machine(0, GetParam());
    unsetenv("LLAMITA_KERNEL");
    return choose(mlp_in_op(), scene.args, machine.context()).name;
  };
  EXPECT_EQ(chosen(""), "cpu");
  EXPECT_EQ(chosen("attention=reference"), "cpu");
  EXPECT_EQ(chosen("linear=reference"), "composition");
  EXPECT_EQ(chosen("activation=reference"), "composition");
  EXPECT_EQ(chosen("linear=reference,mlp_in=cpu"), "cpu");
}

// One token has nothing to gain: as many regions, and none of the work between them is worth sharing.
TEST_P(FusedOnCpu, OneTokenIsLeftToTheOps) {
  const quant::Weight weight = weight_of({{DType::q8_0, 40}, {DType::q8_0, 40}}, 64, false);
  Machine machine(0, GetParam());
  const auto chosen = [&](int64_t T) {
    MlpInScene scene(weight, T, 40, Activation::silu, false);
    return choose(mlp_in_op(), scene.args, machine.context()).name;
  };
  EXPECT_EQ(chosen(1), "composition");
  EXPECT_EQ(chosen(2), "cpu");
}

INSTANTIATE_TEST_SUITE_P(Isas, FusedOnCpu,
                         testing::Values(cpu::Isa::generic, cpu::Isa::avx2, cpu::Isa::avx512),
                         [](const auto& info) { return std::string(cpu::name(info.param)); });

}  // namespace
}  // namespace llamita
