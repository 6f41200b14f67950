#include "ops/linear/linear.h"

#include <bit>
#include <cstddef>

#include "ops/op_test_support.h"
#include "quant/blocks.h"
#include "quant/interleave.h"
#include "quant/unpack.h"

namespace llamita {
namespace {

using test::Errors;
using test::Machine;
using test::Matrix;

constexpr DType kFormats[] = {DType::f32,  DType::f16,  DType::bf16, DType::q4_0,  DType::q4_1,
                              DType::q5_0, DType::q5_1, DType::q8_0, DType::q2_k,  DType::q3_k,
                              DType::q4_k, DType::q5_k, DType::q6_k, DType::iq4_nl};

bool is_int8(const Variant<LinearArgs>& variant) {
  return variant.name.find("int8") != std::string_view::npos;
}

// What a variant does to the activations before it multiplies: variants that do the same give the same bits.
enum class Rounding { none, to_bf16, to_int8 };
Rounding rounding_of(const Variant<LinearArgs>& variant) {
  if (is_int8(variant)) return Rounding::to_int8;
  return variant.name.find("bf16") != std::string_view::npos ? Rounding::to_bf16 : Rounding::none;
}

// NMSE against double with activations rounded to bf16: errors of up to 2^-9 of a value, evenly spread over
// each binade, are 7e-7 of its square in the mean, and more by chance where outputs cancel.
constexpr double kBf16Bound = 1.2e-5;

// NMSE against double of the integer variants. Rounding x to int8 with a scale of a / 127 leaves an error of
// (a / 127)^2 / 12 an element, where a, the largest of 32 normal ones, is about 2.3, and of 256 about
// 3: 2.9e-5 and 4.8e-5; the bound leaves room for chance.
constexpr double kInt8Bound = 8e-5;

// Everything one call needs, in poisoned and misaligned memory.
struct Case {
  Case(quant::Weight w, int64_t T, bool with_bias, bool with_residual)
      : weight(std::move(w)),
        x(T, weight.cols, 3),
        bias(1, weight.rows()),
        residual(T, weight.rows(), 5),
        out(T, weight.rows(), 2) {
    test::fill_normal(x, 7);
    test::fill_normal(bias, 8);
    test::fill_normal(residual, 9);
    args.x = x.tensor();
    args.weight = &weight;
    if (with_bias) args.bias = Tensor(bias.row(0), DType::f32, {weight.rows()});
    if (with_residual) args.residual = residual.tensor();
    args.out = out.tensor();
  }

  Errors errors() const {
    Errors errors;
    std::vector<float> row(static_cast<size_t>(weight.cols));
    for (int64_t n = 0; n < weight.rows(); ++n) {
      quant::unpack_row(weight, n, row.data());
      for (int64_t t = 0; t < x.rows; ++t) {
        double sum = 0;
        for (int64_t k = 0; k < weight.cols; ++k) sum += static_cast<double>(x.row(t)[k]) * row[size_t(k)];
        if (args.bias.defined()) sum += bias.row(0)[n];
        if (args.residual.defined()) sum += residual.row(t)[n];
        errors.add(t * weight.rows() + n, out.row(t)[n], sum);
      }
    }
    return errors;
  }

  quant::Weight weight;
  Matrix x, bias, residual, out;
  LinearArgs args;
};

TEST(Linear, EveryExactVariantAgreesWithDoubleInEveryFormatAndShape) {
  Machine machine(0, cpu::best_isa());
  for (const DType format : kFormats) {
    const int64_t block = info(format).block_elems;
    for (const int64_t K : {block, 3 * block, block == 1 ? int64_t{37} : 5 * block}) {
      for (const auto& [T, N] :
           {std::pair<int64_t, int64_t>{1, 1}, {1, 13}, {3, 12}, {5, 25}, {9, 7}, {0, 4}}) {
        for (const Variant<LinearArgs>& variant : linear_op().variants) {
          Case c(test::random_weight(format, N, K, 3), T, N % 2 == 1, T % 2 == 1);
          if (!variant.supports(c.args, machine.context().caps())) continue;
          if (is_int8(variant)) continue;  // held against their own reference, bit by bit
          linear_op().check(c.args);
          variant.run(c.args, machine.context());
          test::expect_nmse(c.errors(), rounding_of(variant) == Rounding::none ? 1e-10 : kBf16Bound,
                            cat(variant.name, " ", name(format), " T ", T, " N ", N, " K ", K));
        }
      }
    }
  }
}

TEST(Linear, IntegerVariantsRoundNothingButTheActivations) {
  Machine machine(0, cpu::best_isa());
  for (const DType format : kFormats) {
    if (!is_block(format)) continue;
    for (const Variant<LinearArgs>& variant : linear_op().variants) {
      Case c(test::random_weight(format, 48, 1024, 3), 24, false, false);
      if (!is_int8(variant) || !variant.supports(c.args, machine.context().caps())) continue;
      variant.run(c.args, machine.context());
      test::expect_nmse(c.errors(), kInt8Bound, cat(variant.name, " ", name(format)));
      // Integers up to 127, with -127 in each run, have the scale 1: nothing is lost.
      for (int64_t t = 0; t < 24; ++t) {
        for (int64_t k = 0; k < 1024; ++k) {
          c.x.row(t)[k] = k % 32 == 5 ? -127.0f : static_cast<float>((k * 37 + t * 11) % 255 - 127);
        }
      }
      variant.run(c.args, machine.context());
      test::expect_nmse(c.errors(), 1e-10, cat(variant.name, " ", name(format), ", nothing to round"));
    }
  }
}

TEST(Linear, PartsOfDifferentFormatsShareOneOutput) {
  Machine machine(0, cpu::best_isa());
  for (const Variant<LinearArgs>& variant : linear_op().variants) {
    for (const int64_t T : {1, 6}) {
      quant::Weight weight;
      weight.cols = 512;
      weight.parts = {test::random_part(DType::q4_k, 26, 512, 1), test::random_part(DType::f16, 5, 512, 2),
                      test::random_part(DType::q6_k, 13, 512, 3)};
      Case c(std::move(weight), T, true, true);
      if (!variant.supports(c.args, machine.context().caps())) continue;
      variant.run(c.args, machine.context());
      test::expect_nmse(c.errors(), is_int8(variant) ? 2 * kInt8Bound : 1e-10, cat(variant.name, " T ", T));
    }
  }
}

TEST(Linear, TheResidualMayBeTheOutput) {
  Machine machine(1, cpu::best_isa());
  for (const Variant<LinearArgs>& variant : linear_op().variants) {
    Case apart(test::random_weight(DType::q8_0, 19, 96, 4), 5, true, true);
    if (!variant.supports(apart.args, machine.context().caps())) continue;
    Case in_place(test::random_weight(DType::q8_0, 19, 96, 4), 5, true, true);
    in_place.args.out = in_place.args.residual;
    variant.run(apart.args, machine.context());
    variant.run(in_place.args, machine.context());
    for (int64_t t = 0; t < 5; ++t) {
      ASSERT_EQ(std::memcmp(apart.out.row(t), in_place.residual.row(t), 19 * sizeof(float)), 0)
          << variant.name;
    }
  }
}

const Variant<LinearArgs>& linear_variant(const std::string& wanted) {
  for (const Variant<LinearArgs>& variant : linear_op().variants) {
    if (variant.name == wanted) return variant;
  }
  throw Error(cat("linear has no variant ", wanted));
}

// What rounding may stumble over: zeros only, equal magnitudes of both signs, one element above all, values
// that underflow the fp16 scale, and magnitudes far from one.
void set_awkward_activations(Matrix& x) {
  for (int64_t t = 0; t < x.rows; ++t) {
    float* row = x.row(t);
    for (int64_t k = 0; k < x.cols; ++k) {
      if (t % 7 == 1) row[k] = k / 32 % 2 == 0 ? 0.0f : row[k];
      if (t % 7 == 2) row[k] = k % 3 == 0 ? -1.5f : 1.5f;
      if (t % 7 == 3) row[k] = k % 32 == 9 ? -1000.0f : row[k];
      if (t % 7 == 4) row[k] *= 1e-6f;
      if (t % 7 == 5) row[k] *= 1e5f;
      if (t % 7 == 6) row[k] = static_cast<float>(k % 255 - 127) * 0.5f;
    }
  }
}

// Of the variants that round activations alike, the one that would be chosen: the others must give its bits.
const Variant<LinearArgs>& chosen_of(Rounding rounding, const LinearArgs& args, const Context& context) {
  const Variant<LinearArgs>* best = nullptr;
  for (const Variant<LinearArgs>& variant : linear_op().variants) {
    if (rounding_of(variant) != rounding || !variant.supports(args, context.caps())) continue;
    const auto us = [&](const Variant<LinearArgs>& v) { return v.estimate_us(args, context.caps()); };
    if (best == nullptr || us(variant) < us(*best)) best = &variant;
  }
  return *best;
}

// A token's row as the reference of the batch: computed alone, on one thread, by the chosen variant.
class LinearBits : public testing::TestWithParam<cpu::Isa> {};

TEST_P(LinearBits, ATokensResultDependsOnNothingElseInTheBatch) {
  const cpu::Isa isa = GetParam();
  if (isa > cpu::best_isa()) GTEST_SKIP() << "this machine lacks " << cpu::name(isa);
  Machine one(1, isa), all(0, isa);
  for (const DType format : kFormats) {
    const int64_t K = is_block(format) ? 768 : 777, N = 29;
    const auto weight = test::random_weight(format, N, K, 5);
    Matrix tokens(64, K);
    test::fill_normal(tokens, 6);
    for (const Variant<LinearArgs>& variant : linear_op().variants) {
      // The variants of this instruction set: those that the name ends in.
      if (!variant.name.ends_with(cpu::name(isa))) continue;
      if (is_int8(variant) && !is_block(format)) continue;
      if (rounding_of(variant) == Rounding::to_bf16 && format != DType::bf16) continue;
      Matrix alone(64, N);
      for (int64_t t = 0; t < 64; ++t) {
        const LinearArgs args{
            tokens.tensor().slice(t, t + 1), &weight, {}, {}, alone.tensor().slice(t, t + 1)};
        chosen_of(rounding_of(variant), args, one.context()).run(args, one.context());
      }
      for (Machine* machine : {&one, &all}) {
        for (const int64_t T : {1, 2, 3, 7, 8, 9, 16, 17, 33, 64}) {
          const int64_t first = 64 - T;  // another place in the batch than alone
          Matrix out(T, N, 1);
          variant.run({tokens.tensor().slice(first, 64), &weight, {}, {}, out.tensor()}, machine->context());
          for (int64_t t = 0; t < T; ++t) {
            ASSERT_EQ(std::memcmp(out.row(t), alone.row(first + t), static_cast<size_t>(N) * sizeof(float)),
                      0)
                << variant.name << " " << name(format) << " T " << T << " token " << t;
          }
        }
      }
    }
  }
}

TEST_P(LinearBits, ARowsResultDoesNotDependOnItsPlaceInTheWeight) {
  const cpu::Isa isa = GetParam();
  if (isa > cpu::best_isa()) GTEST_SKIP() << "this machine lacks " << cpu::name(isa);
  Machine machine(0, isa);
  for (const Variant<LinearArgs>& variant : linear_op().variants) {
    if (!variant.name.ends_with(cpu::name(isa)) || rounding_of(variant) == Rounding::to_bf16) continue;
    const auto whole = test::random_weight(DType::q4_1, 40, 2080, 5);
    Matrix x(5, 2080), out(5, 40);
    test::fill_normal(x, 6);
    variant.run({x.tensor(), &whole, {}, {}, out.tensor()}, machine.context());
    for (int64_t first = 0; first < 40; ++first) {
      quant::Weight tail;
      tail.cols = 2080;
      const int64_t skipped = first * row_bytes(DType::q4_1, 2080);
      tail.parts = {{"tail", DType::q4_1, 40 - first,
                     Storage::borrow(static_cast<const char*>(whole.parts[0].storage.data()) + skipped,
                                     static_cast<size_t>(whole.bytes() - skipped), nullptr)}};
      Matrix tail_out(5, 40 - first);
      variant.run({x.tensor(), &tail, {}, {}, tail_out.tensor()}, machine.context());
      for (int64_t t = 0; t < 5; ++t) {
        ASSERT_EQ(std::memcmp(tail_out.row(t), out.row(t) + first, static_cast<size_t>(40 - first) * 4), 0)
            << variant.name << " from row " << first;
      }
    }
  }
}

TEST_P(LinearBits, IntegerVariantsGiveTheBitsOfTheirReference) {
  const cpu::Isa isa = GetParam();
  if (isa > cpu::best_isa()) GTEST_SKIP() << "this machine lacks " << cpu::name(isa);
  Machine machine(0, isa);
  for (const DType format : kFormats) {
    if (!is_block(format)) continue;
    const int64_t block = info(format).block_elems;
    for (const int64_t K : {block, 768 + block, 3 * int64_t{512}}) {
      for (const auto& [T, N] : {std::pair<int64_t, int64_t>{1, 1}, {1, 33}, {2, 16}, {15, 47}, {300, 5}}) {
        Case c(test::random_weight(format, N, K, 11), T, true, T % 2 == 1);
        set_awkward_activations(c.x);
        linear_variant("int8_reference").run(c.args, machine.context());
        const Matrix expected = c.out;
        linear_variant(cat("cpu_int8_", cpu::name(isa))).run(c.args, machine.context());
        for (int64_t t = 0; t < T; ++t) {
          for (int64_t n = 0; n < N; ++n) {
            ASSERT_EQ(std::bit_cast<uint32_t>(c.out.row(t)[n]), std::bit_cast<uint32_t>(expected.row(t)[n]))
                << name(format) << " K " << K << " T " << T << " N " << N << " at " << t << ", " << n;
          }
        }
      }
    }
  }
}

// A weight of the largest or the smallest stored integers, whose sums reach as far as they can.
quant::Weight extreme_weight(DType format, int64_t N, int64_t K, int byte) {
  quant::Weight weight = test::random_weight(format, N, K, 12);
  struct {
    DType format;
    size_t first, count, block;  // bytes of the integers
  } constexpr kLayouts[] = {
      {DType::q2_k, offsetof(quant::BlockQ2_K, pairs), 64, sizeof(quant::BlockQ2_K)},
      {DType::q3_k, offsetof(quant::BlockQ3_K, high_bits), 96, sizeof(quant::BlockQ3_K)},
      {DType::q4_k, offsetof(quant::BlockQ4_K, nibbles), 128, sizeof(quant::BlockQ4_K)},
      {DType::q5_k, offsetof(quant::BlockQ5_K, high_bits), 160, sizeof(quant::BlockQ5_K)},
      {DType::q6_k, offsetof(quant::BlockQ6_K, nibbles), 192, sizeof(quant::BlockQ6_K)},
  };
  for (const auto& layout : kLayouts) {
    if (layout.format != format) continue;
    auto* bytes = static_cast<char*>(weight.parts[0].storage.data());
    for (size_t at = 0; at < weight.parts[0].storage.bytes(); at += layout.block) {
      std::memset(bytes + at + layout.first, byte, layout.count);
    }
  }
  return weight;
}

// The kernels choose instructions by how far the sums of a sub-block's products can reach: activations that
// are rounded to exactly `level` lie on both sides of every border, with weights that reach as far.
TEST_P(LinearBits, SumsOfAnyReachGiveTheBitsOfTheReference) {
  const cpu::Isa isa = GetParam();
  if (isa > cpu::best_isa()) GTEST_SKIP() << "this machine lacks " << cpu::name(isa);
  Machine machine(0, isa);
  constexpr int64_t kT = 13, kN = 49, kK = 512;
  for (const DType format : {DType::q2_k, DType::q3_k, DType::q4_k, DType::q5_k, DType::q6_k}) {
    for (const int byte : {0x00, 0xff}) {
      Case c(extreme_weight(format, kN, kK, byte), kT, false, false);
      for (const int level : {1, 32, 33, 34, 63, 64, 65, 66, 67, 68, 69, 126, 127}) {
        for (const int run : {256, 16, 1}) {  // elements of one sign
          for (int64_t t = 0; t < kT; ++t) {
            for (int64_t k = 0; k < kK; ++k) {
              const int sign = k / run % 2 == 0 ? 1 : -1;
              c.x.row(t)[k] = k % 256 == 0 ? -127.0f : static_cast<float>(sign * level);
            }
          }
          linear_variant("int8_reference").run(c.args, machine.context());
          const Matrix expected = c.out;
          linear_variant(cat("cpu_int8_", cpu::name(isa))).run(c.args, machine.context());
          ASSERT_EQ(
              std::memcmp(c.out.data.data(), expected.data.data(), expected.data.size() * sizeof(float)), 0)
              << name(format) << " of bytes " << byte << ", level " << level << ", runs of " << run;
        }
      }
    }
  }
}

TEST_P(LinearBits, AnInterleavedWeightGivesTheBitsOfItsRows) {
  const cpu::Isa isa = GetParam();
  if (isa > cpu::best_isa()) GTEST_SKIP() << "this machine lacks " << cpu::name(isa);
  Machine machine(0, isa);
  for (const DType format : kFormats) {
    if (!is_block(format)) continue;
    const int64_t block = info(format).block_elems;
    for (const int64_t K : {block, 768 + block, 3 * int64_t{512}}) {
      for (const auto& [T, N] : {std::pair<int64_t, int64_t>{1, 8},
                                 {1, 40},
                                 {2, 16},
                                 {3, 56},
                                 {4, 24},
                                 {5, 8},
                                 {15, 48},
                                 {300, 8}}) {
        Case c(test::random_weight(format, N, K, 11), T, true, T % 2 == 1);
        set_awkward_activations(c.x);
        const quant::Weight interleaved = quant::interleaved(c.weight);
        for (const Variant<LinearArgs>& variant : linear_op().variants) {
          if (!variant.supports(c.args, machine.context().caps())) continue;
          if (T > 5 && !variant.name.ends_with(cpu::name(isa))) continue;  // the references are slow
          c.args.weight = &c.weight;
          variant.run(c.args, machine.context());
          const Matrix expected = c.out;
          c.args.weight = &interleaved;
          variant.run(c.args, machine.context());
          ASSERT_EQ(
              std::memcmp(c.out.data.data(), expected.data.data(), expected.data.size() * sizeof(float)), 0)
              << variant.name << " " << name(format) << " K " << K << " T " << T << " N " << N;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, LinearBits, testing::Values(cpu::Isa::avx2, cpu::Isa::avx512),
                         [](const auto& info) { return std::string(cpu::name(info.param)); });

TEST(Linear, TheVectorVariantsRunWhereTheyCan) {
  if (cpu::best_isa() == cpu::Isa::generic) GTEST_SKIP() << "this machine has no vector variants";
  for (const cpu::Isa isa : test::runnable_isas()) {
    for (const int64_t T : {1, 2, 3, 4, 8, 100}) {
      Machine machine(1, isa);
      Case c(test::random_weight(DType::q4_0, 16, 64, 1), T, false, false);
      const std::string_view chosen = choose(linear_op(), c.args, machine.context()).name;
      EXPECT_EQ(chosen, isa == cpu::Isa::generic ? "int8_reference" : cat("cpu_int8_", cpu::name(isa)))
          << "T " << T;
      Case plain(test::random_weight(DType::f16, 16, 64, 1), T, false, false);
      const std::string_view exact = choose(linear_op(), plain.args, machine.context()).name;
      EXPECT_TRUE(isa == cpu::Isa::generic ? exact == "reference" : exact.ends_with(cpu::name(isa)))
          << exact << " for " << cpu::name(isa) << " T " << T;
      EXPECT_EQ(exact.find("int8"), std::string_view::npos);
    }
  }
}

TEST(Linear, ANotANumberReachesTheOutputOfItsTokenAlone) {
  for (const cpu::Isa isa : test::runnable_isas()) {
    Machine machine(1, isa);
    for (const DType format : {DType::q4_1, DType::q8_0, DType::q4_k, DType::q6_k}) {
      Case c(test::random_weight(format, 20, 512, 1), 3, false, false);
      c.x.row(1)[300] = test::kNan;
      run(linear_op(), c.args, machine.context());
      for (int64_t n = 0; n < 20; ++n) {
        EXPECT_FALSE(std::isnan(c.out.row(0)[n]) || std::isnan(c.out.row(2)[n])) << name(format);
        EXPECT_TRUE(std::isnan(c.out.row(1)[n])) << name(format) << " for " << cpu::name(isa);
      }
    }
  }
}

}  // namespace
}  // namespace llamita
