#include "ops/linear/linear.h"

#include "ops/op_test_support.h"
#include "quant/unpack.h"

namespace llamita {
namespace {

using test::Errors;
using test::Machine;
using test::Matrix;

constexpr DType kFormats[] = {DType::f32,  DType::f16,  DType::bf16, DType::q4_0,  DType::q4_1,
                              DType::q5_0, DType::q5_1, DType::q8_0, DType::q2_k,  DType::q3_k,
                              DType::q4_k, DType::q5_k, DType::q6_k, DType::iq4_nl};

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

TEST(Linear, EveryVariantAgreesWithDoubleInEveryFormatAndShape) {
  Machine machine(0, cpu::best_isa());
  for (const DType format : kFormats) {
    const int64_t block = info(format).block_elems;
    for (const int64_t K : {block, 3 * block, block == 1 ? int64_t{37} : 5 * block}) {
      for (const auto& [T, N] :
           {std::pair<int64_t, int64_t>{1, 1}, {1, 13}, {3, 12}, {5, 25}, {9, 7}, {0, 4}}) {
        for (const Variant<LinearArgs>& variant : linear_op().variants) {
          Case c(test::random_weight(format, N, K, 3), T, N % 2 == 1, T % 2 == 1);
          if (!variant.supports(c.args, machine.context().caps())) continue;
          linear_op().check(c.args);
          variant.run(c.args, machine.context());
          test::expect_nmse(c.errors(), 1e-10,
                            cat(variant.name, " ", name(format), " T ", T, " N ", N, " K ", K));
        }
      }
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
      test::expect_nmse(c.errors(), 1e-10, cat(variant.name, " T ", T));
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
    Matrix alone(64, N);
    for (int64_t t = 0; t < 64; ++t) {
      run(linear_op(), {tokens.tensor().slice(t, t + 1), &weight, {}, {}, alone.tensor().slice(t, t + 1)},
          one.context());
    }
    for (const Variant<LinearArgs>& variant : linear_op().variants) {
      // The variants of this instruction set: those that the name ends in.
      if (!variant.name.ends_with(cpu::name(isa))) continue;
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
    if (!variant.name.ends_with(cpu::name(isa))) continue;
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

INSTANTIATE_TEST_SUITE_P(Isas, LinearBits, testing::Values(cpu::Isa::avx2, cpu::Isa::avx512),
                         [](const auto& info) { return std::string(cpu::name(info.param)); });

TEST(Linear, TheVectorVariantsRunWhereTheyCan) {
  if (cpu::best_isa() == cpu::Isa::generic) GTEST_SKIP() << "this machine has no vector variants";
  for (const cpu::Isa isa : test::runnable_isas()) {
    for (const int64_t T : {1, 2, 3, 4, 8, 100}) {
      Machine machine(1, isa);
      Case c(test::random_weight(DType::q4_0, 16, 64, 1), T, false, false);
      const std::string_view chosen = choose(linear_op(), c.args, machine.context()).name;
      EXPECT_TRUE(isa == cpu::Isa::generic ? chosen == "reference" : chosen.ends_with(cpu::name(isa)))
          << chosen << " for " << cpu::name(isa) << " T " << T;
    }
  }
}

}  // namespace
}  // namespace llamita
