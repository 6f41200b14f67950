// norm, activation, rope, embedding and kv_write: the ops that touch every element once or twice.
#include "ops/activation/activation.h"
#include "ops/activation/sigmoid_form.h"
#include "ops/embedding/embedding.h"
#include "ops/kv_write/kv_write.h"
#include "ops/norm/norm.h"
#include "ops/op_test_support.h"
#include "ops/rope/rope.h"
#include "quant/kv_side.h"
#include "quant/unpack.h"

namespace llamita {
namespace {

using test::activation_of;
using test::Errors;
using test::Machine;
using test::Matrix;

TEST(Norm, BothKindsAgreeWithTheFormula) {
  Machine machine(0, cpu::best_isa());
  for (const Variant<NormArgs>& variant : norm_op().variants) {
    if (!variant.supports({}, machine.context().caps())) continue;
    for (const NormKind kind : {NormKind::rms, NormKind::layer}) {
      for (const auto& [T, C] : {std::pair<int64_t, int64_t>{1, 1}, {3, 37}, {40, 576}, {0, 8}}) {
        Matrix x(T, C, 3), weight(1, C), bias(1, C), out(T, C, 1);
        test::fill_normal(x, 1, 5);
        test::fill_normal(weight, 2);
        test::fill_normal(bias, 3);
        const bool with_bias = C != 37;
        NormArgs args{kind, x.tensor(), Tensor(weight.row(0), DType::f32, {C}), {}, 1e-2f, out.tensor()};
        if (with_bias) args.bias = Tensor(bias.row(0), DType::f32, {C});
        norm_op().check(args);
        variant.run(args, machine.context());
        Errors errors;
        for (int64_t t = 0; t < T; ++t) {
          double mean = 0, squares = 0;
          for (int64_t c = 0; c < C && kind == NormKind::layer; ++c)
            mean += x.row(t)[c] / static_cast<double>(C);
          for (int64_t c = 0; c < C; ++c) squares += std::pow(x.row(t)[c] - mean, 2);
          for (int64_t c = 0; c < C; ++c) {
            const double normed = (x.row(t)[c] - mean) / std::sqrt(squares / static_cast<double>(C) + 1e-2f);
            errors.add(t * C + c, out.row(t)[c],
                       normed * weight.row(0)[c] + (with_bias ? bias.row(0)[c] : 0));
          }
        }
        test::expect_nmse(errors, 1e-13, cat(variant.name, " T ", T, " C ", C));
        for (int64_t t = 0; t + 1 < T; ++t) EXPECT_TRUE(std::isnan(out.row(t)[C])) << "wrote past row " << t;
      }
    }
  }
}

TEST(Activation, EveryKindAgreesWithTheFormula) {
  Machine machine(0, cpu::best_isa());
  for (const Variant<ActivationArgs>& variant : activation_op().variants) {
    for (const Activation kind : {Activation::silu, Activation::gelu, Activation::gelu_tanh,
                                  Activation::quick_gelu, Activation::relu}) {
      for (const auto& [T, F] : {std::pair<int64_t, int64_t>{1, 1}, {2, 7}, {3, 100}, {20, 1537}, {0, 16}}) {
        for (const bool gated : {true, false}) {
          Matrix gate(T, F, 3), up(T, F, 5), out(T, F, 1);
          test::fill_normal(gate, 1, 4);
          test::fill_normal(up, 2);
          const ActivationArgs args{kind, gate.tensor(), gated ? up.tensor() : Tensor(), out.tensor()};
          if (!variant.supports(args, machine.context().caps())) continue;
          activation_op().check(args);
          variant.run(args, machine.context());
          Errors errors;
          for (int64_t t = 0; t < T; ++t) {
            for (int64_t f = 0; f < F; ++f) {
              errors.add(t * F + f, out.row(t)[f],
                         activation_of(kind, gate.row(t)[f]) * (gated ? up.row(t)[f] : 1));
            }
          }
          test::expect_nmse(errors, 1e-12, cat(variant.name, " kind ", static_cast<int>(kind), " F ", F));
          for (int64_t t = 0; t + 1 < T; ++t)
            EXPECT_TRUE(std::isnan(out.row(t)[F])) << "wrote past row " << t;
        }
      }
    }
  }
}

// The formula of the GPU's epilogues, as its header states it.
TEST(Activation, SigmoidFormsAreTheirActivations) {
  for (const Activation kind :
       {Activation::silu, Activation::gelu, Activation::gelu_tanh, Activation::quick_gelu}) {
    const SigmoidForm form = sigmoid_form(kind);
    double worst = 0, at = 0;
    for (double x = -100; x < 100; x += 1.0 / 1024) {
      const double s = std::min(x * x, double{kSigmoidLargestSquare});
      const double value = x / (1 + std::exp2(-x * (form.linear + s * (form.cubic + s * form.quintic))));
      const double error = std::abs(value - activation_of(kind, x));
      if (error > worst) worst = error, at = x;
    }
    EXPECT_LT(worst, kind == Activation::gelu ? 2.6e-5 : 1e-8)
        << "kind " << static_cast<int>(kind) << " at " << at;
  }
  EXPECT_EQ(sigmoid_form(Activation::relu).linear, 0);
}

TEST(Activation, TheVectorExpIsWithinItsStatedErrorAndSaturates) {
  Machine machine(1, cpu::best_isa());
  for (const Variant<ActivationArgs>& variant : activation_op().variants) {
    if (!variant.supports({}, machine.context().caps())) continue;
    // silu(x) / x = 1 / (1 + e^-x); at large -x that is e^x to 1e-7.
    std::vector<float> x, y;
    for (float value = -87; value < -18; value += 0.0137f) x.push_back(value);
    y.resize(x.size());
    const auto n = static_cast<int64_t>(x.size());
    variant.run({Activation::silu, Tensor::of(x.data(), {1, n}), {}, Tensor::of(y.data(), {1, n})},
                machine.context());
    for (size_t i = 0; i < x.size(); ++i) {
      const double expected = x[i] * std::exp(double{x[i]}) / (1 + std::exp(double{x[i]}));
      ASSERT_NEAR(y[i] / expected, 1, 4e-7) << variant.name << " at " << x[i];
    }
    const float inf = std::numeric_limits<float>::infinity();
    std::vector<float> edges = {-1000, 1000, 0, -0.0f, inf, test::kNan}, out(6);
    variant.run({Activation::silu, Tensor::of(edges.data(), {1, 6}), {}, Tensor::of(out.data(), {1, 6})},
                machine.context());
    EXPECT_NEAR(out[0], 0, 1e-30) << variant.name;
    EXPECT_EQ(out[1], 1000) << variant.name;
    EXPECT_EQ(out[2], 0) << variant.name;
    EXPECT_EQ(out[3], 0) << variant.name;
    EXPECT_EQ(out[4], inf) << variant.name;
    EXPECT_TRUE(std::isnan(out[5])) << variant.name;
  }
}

TEST(Activation, TheOutputMayBeTheGate) {
  Machine machine(1, cpu::best_isa());
  for (const Variant<ActivationArgs>& variant : activation_op().variants) {
    if (!variant.supports({}, machine.context().caps())) continue;
    Matrix gate(3, 21, 2), up(3, 21), apart(3, 21);
    test::fill_normal(gate, 1);
    test::fill_normal(up, 2);
    variant.run({Activation::silu, gate.tensor(), up.tensor(), apart.tensor()}, machine.context());
    variant.run({Activation::silu, gate.tensor(), up.tensor(), gate.tensor()}, machine.context());
    for (int64_t t = 0; t < 3; ++t) EXPECT_EQ(std::memcmp(gate.row(t), apart.row(t), 21 * sizeof(float)), 0);
  }
}

TEST(Rope, TheAngleIsTheF32ProductAndElementsPairWithTheOtherHalf) {
  Machine machine(0, cpu::best_isa());
  std::vector<int32_t> positions = {0, 1, 8191, 77};
  std::vector<float> inv_freq = {1.0f, 0.31622776f, 0.1f, 0.000123f};
  Matrix table(4, 8);
  rope_table({Tensor::of(positions.data(), {4}), Tensor::of(inv_freq.data(), {4}), 1.5f, table.tensor()},
             machine.context());
  for (int64_t t = 0; t < 4; ++t) {
    for (int64_t i = 0; i < 4; ++i) {
      const double angle = static_cast<float>(positions[size_t(t)]) * inv_freq[size_t(i)];
      EXPECT_FLOAT_EQ(table.row(t)[i], static_cast<float>(1.5 * std::cos(angle)));
      EXPECT_FLOAT_EQ(table.row(t)[4 + i], static_cast<float>(1.5 * std::sin(angle)));
    }
  }
  for (const Variant<RopeArgs>& variant : rope_op().variants) {
    if (!variant.supports({}, machine.context().caps())) continue;
    Matrix x(4, 3 * 10, 7);  // three heads of 10, of which 8 rotate
    test::fill_normal(x, 5);
    const Matrix before = x;
    variant.run({x.tensor().split_last(3), table.tensor()}, machine.context());
    Errors errors;
    for (int64_t t = 0; t < 4; ++t) {
      for (int64_t e = 0; e < 30; ++e) {
        const int64_t d = e % 10, head = e - d, pair = d % 4;
        const double c = table.row(t)[pair], s = table.row(t)[4 + pair];
        const double a = before.row(t)[head + pair], b = before.row(t)[head + pair + 4];
        errors.add(t * 30 + e, x.row(t)[e],
                   d >= 8  ? before.row(t)[e]
                   : d < 4 ? a * c - b * s
                           : b * c + a * s);
      }
    }
    test::expect_nmse(errors, 1e-13, std::string(variant.name));
  }
}

TEST(Embedding, RowsOfEveryFormatInputRowsInOrderAndPositions) {
  Machine machine(0, cpu::best_isa());
  for (const DType format : {DType::f32, DType::bf16, DType::q4_1, DType::q6_k}) {
    const auto table = test::random_weight(format, 9, 512, 1),
               learned = test::random_weight(DType::f16, 6, 512, 2);
    Matrix inputs(2, 512, 3), out(5, 512, 1);
    test::fill_normal(inputs, 3);
    std::vector<int32_t> ids = {8, -1, 0, -1, 8}, positions = {0, 1, 2, 5, 4};
    for (const bool with_positions : {false, true}) {
      EmbeddingArgs args{.token_ids = Tensor::of(ids.data(), {5}),
                         .table = &table,
                         .input_rows = inputs.tensor(),
                         .out = out.tensor()};
      if (with_positions) args.positions = Tensor::of(positions.data(), {5}), args.position_table = &learned;
      embedding(args, machine.context());
      std::vector<float> expected(512), position(512);
      for (size_t t = 0; t < 5; ++t) {
        if (ids[t] >= 0) quant::unpack_row(table, ids[t], expected.data());
        if (ids[t] < 0) std::memcpy(expected.data(), inputs.row(t == 1 ? 0 : 1), 512 * sizeof(float));
        quant::unpack_row(learned, positions[t], position.data());
        for (size_t c = 0; c < 512 && with_positions; ++c) expected[c] += position[c];
        EXPECT_EQ(std::memcmp(expected.data(), out.row(int64_t(t)), 512 * sizeof(float)), 0)
            << name(format) << t;
      }
    }
  }
}

TEST(Embedding, TakesTheTokensOfTheStepBefore) {
  Machine machine(0, cpu::best_isa());
  const auto table = test::random_weight(DType::q8_0, 9, 512, 1);
  std::vector<int32_t> ids = {3, 0, 0, 0}, chosen = {7, -1, 8}, source = {-1, 2, 0, 1};
  Matrix out(4, 512, 1);
  embedding({.token_ids = Tensor::of(ids.data(), {4}),
             .table = &table,
             .chosen = Tensor::of(chosen.data(), {3}),
             .token_source = Tensor::of(source.data(), {4}),
             .out = out.tensor()},
            machine.context());
  EXPECT_EQ(ids, (std::vector<int32_t>{3, 8, 7, 0}));
  std::vector<float> expected(512);
  for (size_t t = 0; t < 4; ++t) {
    quant::unpack_row(table, ids[t], expected.data());
    EXPECT_EQ(std::memcmp(expected.data(), out.row(int64_t(t)), 512 * sizeof(float)), 0) << t;
  }
}

TEST(KvWrite, TokensGoToTheirSlotsAndNowhereElse) {
  Machine machine(0, cpu::best_isa());
  constexpr int64_t kHeads = 2, kD = 24, kPages = 3;
  for (const Variant<KvWriteArgs>& variant : kv_write_op().variants) {
    if (!variant.supports({}, machine.context().caps())) continue;
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      Matrix k(3, kHeads * kD, 5), v(3, kHeads * kD, 1);
      test::fill_normal(k, 1);
      test::fill_normal(v, 2);
      std::vector<int64_t> slots = {2 * kPageTokens + 63, -1, 5};
      const auto bytes = static_cast<size_t>(info(dtype).block_bytes);
      std::vector<uint8_t> keys(size_t{kPages * kHeads * kPageTokens * kD} * bytes, 0xee), values = keys;
      const auto cache = [&](std::vector<uint8_t>& of) {
        return Tensor(of.data(), dtype, {kPages, kHeads, kPageTokens, kD});
      };
      variant.run({k.tensor().split_last(kHeads), v.tensor().split_last(kHeads),
                   Tensor::of(slots.data(), {3}), cache(keys), cache(values)},
                  machine.context());
      size_t untouched = 0;
      for (int64_t i = 0; i < kPages * kHeads * kPageTokens * kD; ++i) {
        const int64_t d = i % kD, slot = i / kD % kPageTokens, head = i / kD / kPageTokens % kHeads,
                      page = i / kD / kPageTokens / kHeads;
        int64_t token = -1;
        for (int64_t t : {0, 2}) {
          if (slots[size_t(t)] == page * kPageTokens + slot) token = t;
        }
        for (const auto& [written, from] : {std::pair{&keys, &k}, {&values, &v}}) {
          const uint8_t* at = written->data() + size_t(i) * bytes;
          if (token < 0) {
            untouched += std::count(at, at + bytes, 0xee);
            continue;
          }
          float expected = from->row(token)[head * kD + d], got = 0;
          uint16_t bits = 0;
          std::memcpy(&bits, at, 2);
          if (dtype == DType::f32) std::memcpy(&got, at, 4);
          if (dtype == DType::f16) got = to_float(f16{bits}), expected = to_float(to_f16(expected));
          if (dtype == DType::bf16) got = to_float(bf16{bits}), expected = to_float(to_bf16(expected));
          ASSERT_EQ(got, expected) << name(dtype) << " element " << i;
        }
      }
      EXPECT_EQ(untouched, 2 * bytes * size_t{(kPages * kPageTokens - 2) * kHeads * kD}) << name(dtype);
    }
  }
}

TEST(KvWrite, Int8RowsAndTheirScalesGoToTheirSlotsAndNowhereElse) {
  Machine machine(0, cpu::best_isa());
  constexpr int64_t kHeads = 2, kD = 24, kPages = 3;
  for (const Variant<KvWriteArgs>& variant : kv_write_op().variants) {
    if (!variant.supports({}, machine.context().caps())) continue;
    Matrix k(3, kHeads * kD, 5), v(3, kHeads * kD, 1);
    test::fill_normal(k, 1);
    test::fill_normal(v, 2);
    std::vector<int64_t> slots = {2 * kPageTokens + 63, -1, 5};
    const auto bytes = static_cast<size_t>(kv_side_bytes(kv_side(nullptr, {DType::i8}, kPages, kHeads, kD)));
    std::vector<uint8_t> keys(bytes, 0xee), values = keys, expected_keys = keys, expected_values = keys;
    const auto side = [](std::vector<uint8_t>& of) {
      return kv_side(of.data(), {DType::i8}, kPages, kHeads, kD);
    };
    const KvWriteArgs args{k.tensor().split_last(kHeads), v.tensor().split_last(kHeads),
                           Tensor::of(slots.data(), {3}), side(keys), side(values)};
    kv_write_op().check(args);
    variant.run(args, machine.context());
    for (const int64_t token : {0, 2}) {
      const int64_t page = slots[size_t(token)] / kPageTokens, slot = slots[size_t(token)] % kPageTokens;
      for (const auto& [from, to] : {std::pair{&k, &expected_keys}, {&v, &expected_values}}) {
        for (int64_t head = 0; head < kHeads; ++head) {
          const Tensor cache = side(*to);
          const int64_t row = head * kPageTokens + slot;
          kv_scales(cache, page)[row] = quantize_kv_row(
              from->row(token) + head * kD, kD, cache.ptr<int8_t>() + page * cache.stride(0) + row * kD);
        }
      }
    }
    EXPECT_EQ(keys, expected_keys) << variant.name;
    EXPECT_EQ(values, expected_values) << variant.name;
  }
}

TEST(KvWrite, AnInt8CacheWithoutRoomForScalesIsRefused) {
  Matrix k(1, 32), v(1, 32);
  std::vector<int64_t> slots = {0};
  std::vector<int8_t> bytes(2 * 2 * kPageTokens * 16);
  const Tensor dense = Tensor::of(bytes.data(), {2, 2, kPageTokens, 16});
  const KvWriteArgs args{k.tensor().split_last(2), v.tensor().split_last(2), Tensor::of(slots.data(), {1}),
                         dense, dense};
  EXPECT_DEATH(kv_write_op().check(args), "with its scales");
}

}  // namespace
}  // namespace llamita
