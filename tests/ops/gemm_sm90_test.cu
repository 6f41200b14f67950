// The Hopper GEMM in every tile and schedule it can take, split or whole, on ragged shapes, against the CPU's
// reference. A result is the same bits in every run, whatever order blocks finish in, and however many
// multiprocessors share the tiles.
#include "ops/cuda_test_support.h"
#include "ops/linear/gemm_sm90.h"
#include "ops/linear/linear.h"

namespace llamita {
namespace {

using test::CudaMachine;
using test::DeviceMatrix;
using test::Machine;
using CudaGemm = test::GpuTest;

constexpr float kScale = 0.1f;

struct Case {
  int64_t M, N, K;
  DType element;
  GemmSm90::Out kind;
  bool bias;
  std::optional<Activation> activation = {};
  bool gated = false;
};

void check(const Case& c, CudaMachine& gpu, Machine& cpu) {
  constexpr int kFewMultiprocessors = 4;  // whose blocks have several tiles, some one more than others
  const bool adds = c.kind == GemmSm90::Out::f32_add;
  const DType out_type = c.kind == GemmSm90::Out::element ? c.element : DType::f32;
  quant::Weight weight;
  weight.cols = c.K;
  weight.parts.push_back(test::random_part(c.element, c.N, c.K, 11));
  quant::Weight up_weight;
  up_weight.cols = c.K;
  up_weight.parts.push_back(test::random_part(c.element, c.N, c.K, 12));
  const quant::Weight there = test::to_device(weight), up_there = test::to_device(up_weight);
  DeviceMatrix x(c.M, c.K, c.element), bias(1, c.N, DType::f32), bias_up(1, c.N, DType::f32),
      out(c.M, c.N, out_type);
  x.fill_normal(1, kScale);
  bias.fill_normal(2);
  bias_up.fill_normal(4);
  out.fill_normal(3);
  std::vector<float> before = out.host(), expected(static_cast<size_t>(c.M * c.N));
  LinearArgs args{x.host_tensor(), &weight, {}, {}, Tensor::of(expected.data(), {c.M, c.N})};
  if (c.bias) args.bias = bias.host_vector();
  if (adds) args.residual = Tensor::of(before.data(), {c.M, c.N});
  test::run_reference(linear_op(), args, cpu.context());
  if (c.activation) test::activate(*c.activation, expected);
  if (c.gated) {
    std::vector<float> up(expected.size());
    LinearArgs other{x.host_tensor(), &up_weight, {}, {}, Tensor::of(up.data(), {c.M, c.N})};
    if (c.bias) other.bias = bias_up.host_vector();
    test::run_reference(linear_op(), other, cpu.context());
    for (size_t i = 0; i < up.size(); ++i) expected[i] *= up[i];
  }

  GemmSm90 g{};
  g.a = x.tensor().data();
  g.b = there.parts[0].storage.data();
  g.b_up = c.gated ? up_there.parts[0].storage.data() : nullptr;
  g.element = c.element;
  g.M = static_cast<int>(c.M), g.N = static_cast<int>(c.N), g.K = static_cast<int>(c.K);
  g.a_stride = x.tensor().stride(0);
  g.bias = c.bias ? bias.vector().ptr<float>() : nullptr;
  g.bias_up = c.bias && c.gated ? bias_up.vector().ptr<float>() : nullptr;
  g.activation = c.activation;
  g.kind = c.kind;
  g.out = out.tensor().data();
  g.out_stride = out.tensor().stride(0);
  const GemmShape shape = gemm_sm90_shape(g, gpu.context().caps());
  Caps few = gpu.context().caps();
  few.sm_count = kFewMultiprocessors;
  Context on_few(gpu.stream(), gpu.context().arena(), few);
  for (const GemmTile tile : gemm_tiles()) {
    if (!gemm_tile_fits(shape, tile)) continue;
    const std::string what =
        cat(c.M, " x ", c.N, " x ", c.K, " in ", tile.height, " x ", tile.width, " / ", tile.splits, " / ",
            tile.rows, tile.schedule == GemmSchedule::ping_pong ? " ping-pong " : " ", name(c.element),
            " kind ", static_cast<int>(c.kind), " bias ", c.bias, " gated ", c.gated, " activation ",
            c.activation ? static_cast<int>(*c.activation) : -1);
    const bool fits_on_few = gemm_tile_fits(gemm_sm90_shape(g, few), tile);
    std::vector<float> first;
    for (int run = 0; run < 3; ++run) {
      out.fill(before);
      gemm_sm90(g, tile, run == 2 && fits_on_few ? on_few : gpu.context());
      const std::vector<float> got = out.read();
      if (run == 0) {
        first = got;
        test::expect_close(got, expected,
                           c.kind == GemmSm90::Out::element ? test::nmse_bound(c.element) : 1e-9, what);
      }
      EXPECT_EQ(got, first) << what << ", run " << run;
    }
  }
}

void check_every_tile(DType type) {
  if (CudaMachine::caps_of(DType::bf16).arch != 90) GTEST_SKIP() << "needs compute capability 9.0";
  Machine cpu(1, cpu::Isa::generic);
  CudaMachine gpu(type);
  check({256, 520, 1096, type, GemmSm90::Out::element, true}, gpu, cpu);
  check({250, 264, 584, type, GemmSm90::Out::f32_add, false}, gpu, cpu);
  check({390, 72, 320, type, GemmSm90::Out::f32, true}, gpu, cpu);
  check({130, 1000, 264, type, GemmSm90::Out::element, false}, gpu, cpu);
  check({40, 136, 2056, type, GemmSm90::Out::f32_add, true}, gpu, cpu);
  check({512, 8, 64, type, GemmSm90::Out::element, true}, gpu, cpu);
  check({250, 520, 584, type, GemmSm90::Out::element, true, Activation::gelu_tanh}, gpu, cpu);
  check({40, 136, 1032, type, GemmSm90::Out::element, true, Activation::gelu}, gpu, cpu);
  check({130, 72, 264, type, GemmSm90::Out::element, false, Activation::quick_gelu}, gpu, cpu);
  check({250, 520, 584, type, GemmSm90::Out::element, true, Activation::silu, true}, gpu, cpu);
  check({130, 1000, 136, type, GemmSm90::Out::element, false, Activation::gelu_tanh, true}, gpu, cpu);
  check({600, 520, 200, type, GemmSm90::Out::element, true}, gpu, cpu);
  check({390, 520, 392, type, GemmSm90::Out::f32_add, true}, gpu, cpu);
}

// Small enough for compute-sanitizer, and still several tiles a block: consumers in turns hand over.
TEST_F(CudaGemm, EveryTileOfASmallProduct) {
  if (CudaMachine::caps_of(DType::bf16).arch != 90) GTEST_SKIP() << "needs compute capability 9.0";
  Machine cpu(1, cpu::Isa::generic);
  CudaMachine gpu(DType::bf16);
  check({390, 264, 136, DType::bf16, GemmSm90::Out::element, true}, gpu, cpu);
}

TEST_F(CudaGemm, EveryTileOnRaggedShapes) { check_every_tile(DType::bf16); }
TEST_F(CudaGemm, EveryTileOnRaggedShapesInF16) { check_every_tile(DType::f16); }

}  // namespace
}  // namespace llamita
