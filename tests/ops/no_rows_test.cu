// Ops that have no row to work on: every CUDA variant returns, and nothing is written.
#include "ops/activation/activation.h"
#include "ops/attn_in/attn_in.h"
#include "ops/cuda_test_support.h"
#include "ops/embedding/embedding.h"
#include "ops/gather/gather.h"
#include "ops/kv_write/kv_write.h"
#include "ops/linear/linear.h"
#include "ops/mlp_in/mlp_in.h"
#include "ops/norm/norm.h"
#include "ops/rope/rope.h"

namespace llamita {
namespace {

using test::CudaMachine;
using test::DeviceInts;
using test::DeviceMatrix;
using CudaNoRows = test::GpuTest;

constexpr DType kPassing[] = {DType::f32, DType::bf16, DType::f16};

// No row of a matrix that has one.
Tensor none(const DeviceMatrix& matrix) { return matrix.tensor().slice(0, 0); }

template <class Args>
void expect_untouched(const Op<Args>& op, const Args& args, CudaMachine& gpu,
                      std::initializer_list<DeviceMatrix*> outputs) {
  test::for_variants<Args>(op, args, gpu, [&](std::string_view variant) {
    for (DeviceMatrix* output : outputs)
      for (const float value : output->read()) ASSERT_TRUE(std::isnan(value)) << op.name << " " << variant;
  });
}

TEST_F(CudaNoRows, Products) {
  constexpr int64_t K = 256, N = 64;
  for (const DType type : {DType::bf16, DType::f16}) {
    CudaMachine gpu(type);
    for (const DType format : {type, DType::q8_0, DType::q4_k}) {
      const quant::Weight weight = test::to_device(test::random_weight(format, N, K, 1));
      for (const DType out_type : {type, DType::f32}) {
        const DeviceMatrix x(1, K, type), residual(1, N, out_type);
        DeviceMatrix bias(1, N, DType::f32), out(1, N, out_type);
        bias.fill_normal(1);
        expect_untouched(linear_op(), {none(x), &weight, bias.vector(), {}, none(out)}, gpu, {&out});
        expect_untouched(linear_op(), {none(x), &weight, {}, none(residual), none(out)}, gpu, {&out});
        expect_untouched(linear_op(), {none(x), &weight, {}, none(out), none(out)}, gpu, {&out});
      }
    }
  }
}

TEST_F(CudaNoRows, BlocksOfALayer) {
  constexpr int64_t C = 256, F = 128, H = 4, Hkv = 2, D = 64;
  for (const DType type : {DType::bf16, DType::f16}) {
    CudaMachine gpu(type);
    for (const DType format : {type, DType::q4_k}) {
      quant::Weight gate_up, qkv;
      gate_up.cols = qkv.cols = C;
      for (const int64_t rows : {F, F}) gate_up.parts.push_back(test::random_part(format, rows, C, 1));
      for (const int64_t rows : {H * D, Hkv * D, Hkv * D})
        qkv.parts.push_back(test::random_part(format, rows, C, 2));
      const quant::Weight gate_up_there = test::to_device_in_one_piece(gate_up),
                          qkv_there = test::to_device_in_one_piece(qkv);
      const DeviceMatrix x(1, C, DType::f32), table(1, D, DType::f32);
      const DeviceInts<int64_t> slots({0});
      DeviceMatrix norm_weight(1, C, DType::f32), out(1, F, type), q(1, H * D, type),
          k_cache(Hkv * kPageTokens, D, type, 0), v_cache(Hkv * kPageTokens, D, type, 0);
      norm_weight.fill_normal(3);
      const MlpInArgs mlp{.x = none(x),
                          .norm_kind = NormKind::rms,
                          .norm_weight = norm_weight.vector(),
                          .norm_bias = {},
                          .norm_eps = 1e-5f,
                          .in = &gate_up_there,
                          .bias = {},
                          .activation = Activation::silu,
                          .gated = true,
                          .out = none(out)};
      expect_untouched(mlp_in_op(), mlp, gpu, {&out});
      const AttnInArgs attn{.x = none(x),
                            .norm_kind = NormKind::rms,
                            .norm_weight = norm_weight.vector(),
                            .norm_bias = {},
                            .norm_eps = 1e-5f,
                            .qkv = &qkv_there,
                            .qkv_bias = {},
                            .q_norm = {},
                            .k_norm = {},
                            .cos_sin = none(table),
                            .kv_slot = slots.tensor({0}),
                            .k_cache = k_cache.tensor().view({1, Hkv, kPageTokens, D}),
                            .v_cache = v_cache.tensor().view({1, Hkv, kPageTokens, D}),
                            .q = none(q).split_last(H)};
      expect_untouched(attn_in_op(), attn, gpu, {&q, &k_cache, &v_cache});
    }
  }
}

TEST_F(CudaNoRows, ElementwiseOps) {
  constexpr int64_t C = 96, H = 3, D = 32;
  CudaMachine gpu(DType::bf16);
  const quant::Weight rows = test::to_device(test::random_weight(DType::bf16, 5, C, 1));
  const DeviceInts<int32_t> ids({0});
  const DeviceInts<int64_t> slots({0});
  const DeviceMatrix x(1, C, DType::f32);
  DeviceMatrix norm_weight(1, C, DType::f32), inv_freq(1, D / 2, DType::f32), table(1, D, DType::f32),
      stream(1, C, DType::f32);
  norm_weight.fill_normal(2);
  inv_freq.fill_normal(3);
  expect_untouched(embedding_op(),
                   {.token_ids = ids.tensor({0}),
                    .table = &rows,
                    .input_rows = {},
                    .positions = {},
                    .position_table = nullptr,
                    .chosen = {},
                    .token_source = {},
                    .out = none(stream)},
                   gpu, {&stream});
  expect_untouched(gather_op(), {x.tensor(), ids.tensor({0}), none(stream)}, gpu, {&stream});
  expect_untouched(rope_table_op(), {ids.tensor({0}), inv_freq.vector(), 1, none(table)}, gpu, {&table});
  for (const DType type : kPassing) {
    const DeviceMatrix up(1, C, type);
    DeviceMatrix out(1, C, type), k_cache(H * kPageTokens, D, type, 0), v_cache(H * kPageTokens, D, type, 0);
    expect_untouched(norm_op(), {NormKind::rms, none(x), norm_weight.vector(), {}, 1e-5f, none(out)}, gpu,
                     {&out});
    expect_untouched(activation_op(), {Activation::silu, none(up), none(up), none(out)}, gpu, {&out});
    expect_untouched(rope_op(), {none(out).split_last(H), none(table)}, gpu, {&out});
    const auto pages = [&](const DeviceMatrix& m) { return m.tensor().view({1, H, kPageTokens, D}); };
    expect_untouched(
        kv_write_op(),
        {none(up).split_last(H), none(up).split_last(H), slots.tensor({0}), pages(k_cache), pages(v_cache)},
        gpu, {&k_cache, &v_cache});
  }
}

}  // namespace
}  // namespace llamita
