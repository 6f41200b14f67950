// The small ops on a GPU against the CPU's reference.
#include "ops/activation/activation.h"
#include "ops/cuda_test_support.h"
#include "ops/embedding/embedding.h"
#include "ops/gather/gather.h"
#include "ops/kv_write/kv_write.h"
#include "ops/norm/norm.h"
#include "ops/patch_embed/patch_embed.h"
#include "ops/rope/rope.h"

namespace llamita {
namespace {

using test::CudaMachine;
using test::DeviceInts;
using test::DeviceMatrix;
using test::Machine;
using CudaElementwise = test::GpuTest;

constexpr DType kPassing[] = {DType::f32, DType::bf16, DType::f16};

TEST_F(CudaElementwise, NormOfBothKindsInEveryType) {
  CudaMachine gpu(DType::bf16);
  Machine cpu(1, cpu::Isa::generic);
  for (const DType dtype : kPassing) {
    for (const NormKind kind : {NormKind::rms, NormKind::layer}) {
      for (const auto& [T, C] : {std::pair<int64_t, int64_t>{1, 1}, {3, 37}, {40, 576}, {2, 8192}}) {
        DeviceMatrix x(T, C, DType::f32, 3), weight(1, C, DType::f32), bias(1, C, DType::f32),
            out(T, C, dtype, 1);
        x.fill_normal(1, 5);
        weight.fill_normal(2);
        bias.fill_normal(3);
        NormArgs args{kind, x.tensor(), weight.vector(), {}, 1e-5f, out.tensor()};
        std::vector<float> expected(static_cast<size_t>(T * C));
        NormArgs reference{kind, x.host_tensor(), weight.host_vector(),
                           {},   1e-5f,           Tensor::of(expected.data(), {T, C})};
        if (C != 37) {
          args.bias = bias.vector();
          reference.bias = bias.host_vector();
        }
        test::run_reference(norm_op(), reference, cpu.context());
        test::for_variants<NormArgs>(norm_op(), args, gpu, [&](std::string_view name) {
          test::expect_close(out.read(), expected, dtype == DType::f32 ? 1e-10 : test::nmse_bound(dtype),
                             cat(name, " ", llamita::name(dtype), " T ", T, " C ", C));
        });
      }
    }
  }
}

TEST_F(CudaElementwise, PatchesOfImages) {
  CudaMachine gpu(DType::bf16);
  Machine cpu(1, cpu::Isa::generic);
  for (const DType dtype : kPassing) {
    for (const auto& [S, p, C] : {std::tuple<int64_t, int64_t, int64_t>{12, 4, 10}, {56, 14, 64}}) {
      const int64_t n = 2, tokens = 1 + (S / p) * (S / p), K = 3 * p * p + 20;
      DeviceMatrix pixels(n * 3 * S, S, DType::f32, 0), class_row(1, C, DType::f32, 0),
          positions(tokens, C, DType::f32, 0), patches(n * tokens, K, dtype), x(n * tokens, C, DType::f32);
      pixels.fill_normal(1);
      class_row.fill_normal(2);
      positions.fill_normal(3);
      std::vector<float> want_patches(static_cast<size_t>(n * tokens * K)),
          want_x(static_cast<size_t>(n * tokens * C));
      const PatchEmbedArgs args{.pixels = pixels.tensor().view({n, 3, S, S}),
                                .class_row = class_row.vector(),
                                .positions = positions.tensor(),
                                .patch = p,
                                .patches = patches.tensor(),
                                .x = x.tensor()};
      const PatchEmbedArgs reference{.pixels = Tensor::of(pixels.host().data(), {n, 3, S, S}),
                                     .class_row = class_row.host_vector(),
                                     .positions = positions.host_tensor(),
                                     .patch = p,
                                     .patches = Tensor::of(want_patches.data(), {n * tokens, K}),
                                     .x = Tensor::of(want_x.data(), {n * tokens, C})};
      test::run_reference(patch_embed_op(), reference, cpu.context());
      test::for_variants<PatchEmbedArgs>(patch_embed_op(), args, gpu, [&](std::string_view name) {
        const std::string what = cat(name, " ", llamita::name(dtype), " S ", S);
        test::expect_close(patches.read(), want_patches,
                           dtype == DType::f32 ? 1e-14 : test::nmse_bound(dtype), what);
        test::expect_close(x.read(), want_x, 1e-14, what);
      });
    }
  }
}

TEST_F(CudaElementwise, NormMayOverwriteItsInput) {
  CudaMachine gpu(DType::bf16);
  DeviceMatrix x(3, 100, DType::f32), weight(1, 100, DType::f32), apart(3, 100, DType::f32);
  x.fill_normal(1);
  weight.fill_normal(2);
  norm({NormKind::rms, x.tensor(), weight.vector(), {}, 1e-5f, apart.tensor()}, gpu.context());
  norm({NormKind::rms, x.tensor(), weight.vector(), {}, 1e-5f, x.tensor()}, gpu.context());
  EXPECT_EQ(x.read(), apart.read());
}

TEST_F(CudaElementwise, ActivationsOfEveryKind) {
  CudaMachine gpu(DType::bf16);
  Machine cpu(1, cpu::Isa::generic);
  for (const DType dtype : kPassing) {
    for (const Activation kind : {Activation::silu, Activation::gelu, Activation::gelu_tanh,
                                  Activation::quick_gelu, Activation::relu}) {
      for (const bool gated : {true, false}) {
        const int64_t T = 5, F = 333;
        DeviceMatrix gate(T, F, dtype, 3), up(T, F, dtype, 1), out(T, F, dtype, 5);
        gate.fill_normal(1, 2);
        up.fill_normal(2);
        std::vector<float> expected(static_cast<size_t>(T * F));
        ActivationArgs args{kind, gate.tensor(), {}, out.tensor()};
        ActivationArgs reference{kind, gate.host_tensor(), {}, Tensor::of(expected.data(), {T, F})};
        if (gated) {
          args.up = up.tensor();
          reference.up = up.host_tensor();
        }
        test::run_reference(activation_op(), reference, cpu.context());
        test::for_variants<ActivationArgs>(activation_op(), args, gpu, [&](std::string_view name) {
          test::expect_close(out.read(), expected, test::nmse_bound(dtype),
                             cat(name, " kind ", static_cast<int>(kind), " ", llamita::name(dtype)));
        });
      }
    }
  }
}

TEST_F(CudaElementwise, RopeTableAndRotation) {
  CudaMachine gpu(DType::bf16);
  Machine cpu(1, cpu::Isa::generic);
  const int64_t T = 5, pairs = 12, H = 3, D = 40;
  DeviceInts<int32_t> positions({0, 1, 77, 8191, 131071});
  std::vector<float> frequencies;
  for (int64_t i = 0; i < pairs; ++i) frequencies.push_back(std::pow(10000.0f, -static_cast<float>(i) / 12));
  DeviceMatrix inv_freq(1, pairs, DType::f32), table(T, 2 * pairs, DType::f32, 5);
  inv_freq.fill(frequencies);
  std::vector<float> expected(static_cast<size_t>(T * 2 * pairs));
  const Tensor expected_table = Tensor::of(expected.data(), {T, 2 * pairs});
  test::run_reference(rope_table_op(), {positions.host(), inv_freq.host_vector(), 1.5f, expected_table},
                      cpu.context());
  test::for_variants<RopeTableArgs>(
      rope_table_op(), {positions.tensor(), inv_freq.vector(), 1.5f, table.tensor()}, gpu,
      [&](std::string_view name) { test::expect_close(table.read(), expected, 1e-12, std::string(name)); });

  for (const DType dtype : kPassing) {
    DeviceMatrix x(T, H * D, dtype, 7);
    x.fill_normal(4);
    std::vector<float> rotated = x.host();
    test::run_reference(rope_op(), {Tensor::of(rotated.data(), {T, H, D}), expected_table}, cpu.context());
    rope({x.tensor().split_last(H), table.tensor()}, gpu.context());
    test::expect_close(x.read(), rotated, test::nmse_bound(dtype), cat("rope ", name(dtype)));
  }
}

TEST_F(CudaElementwise, EmbeddingOfEveryFormatWithInputRowsAndPositions) {
  CudaMachine gpu(DType::bf16);
  Machine cpu(1, cpu::Isa::generic);
  for (const DType format : {DType::f32, DType::bf16, DType::f16, DType::q4_0, DType::q4_1, DType::q8_0,
                             DType::q4_k, DType::q6_k}) {
    const int64_t V = 19, P = 9, C = is_block(format) ? 512 : 52;
    const quant::Weight table = test::random_weight(format, V, C, 3);
    const quant::Weight positions = test::random_weight(DType::f16, P, C, 5);
    const quant::Weight table_there = test::to_device(table), positions_there = test::to_device(positions);
    std::vector<int32_t> ids(300), places(300);
    for (size_t t = 0; t < ids.size(); ++t) {
      ids[t] = t % 7 == 3 ? -1 - static_cast<int32_t>(t) : static_cast<int32_t>(t * 5 % V);
      places[t] = static_cast<int32_t>(t % P);
    }
    DeviceInts<int32_t> token_ids(ids), position_ids(places);
    const auto T = static_cast<int64_t>(ids.size());
    DeviceMatrix inputs(43, C, DType::f32, 2), out(T, C, DType::f32, 3);
    inputs.fill_normal(9);
    for (const bool with_positions : {false, true}) {
      std::vector<float> expected(static_cast<size_t>(T * C));
      EmbeddingArgs reference{.token_ids = token_ids.host(),
                              .table = &table,
                              .input_rows = inputs.host_tensor(),
                              .positions = {},
                              .position_table = nullptr,
                              .chosen = {},
                              .token_source = {},
                              .out = Tensor::of(expected.data(), {T, C})};
      EmbeddingArgs args{.token_ids = token_ids.tensor(),
                         .table = &table_there,
                         .input_rows = inputs.tensor(),
                         .positions = {},
                         .position_table = nullptr,
                         .chosen = {},
                         .token_source = {},
                         .out = out.tensor()};
      if (with_positions) {
        reference.positions = position_ids.host();
        reference.position_table = &positions;
        args.positions = position_ids.tensor();
        args.position_table = &positions_there;
      }
      test::run_reference(embedding_op(), reference, cpu.context());
      test::for_variants<EmbeddingArgs>(embedding_op(), args, gpu, [&](std::string_view variant) {
        EXPECT_EQ(out.read(), expected) << variant << " " << name(format) << " positions " << with_positions;
      });
    }
  }
}

TEST_F(CudaElementwise, EmbeddingTakesTheTokensOfTheStepBefore) {
  const int64_t V = 60, C = 52;
  const quant::Weight table = test::random_weight(DType::bf16, V, C, 3), table_there = test::to_device(table);
  for (const int64_t tokens : {1, 7, 300}) {
    std::vector<int32_t> ids, source, expected;
    const std::vector<int32_t> chosen = {11, -1, 33, 44, 55};  // a broken row's is taken for 0
    for (int32_t t = 0; t < tokens; ++t) {
      ids.push_back(t % V);
      source.push_back(t % 3 == 1 ? -1 : t % 5);
      expected.push_back(source.back() < 0 ? ids.back() : std::max(chosen[static_cast<size_t>(t % 5)], 0));
    }
    CudaMachine gpu(DType::bf16);
    DeviceInts<int32_t> on_card(ids), rows(source), before(chosen);
    DeviceMatrix out(tokens, C, DType::f32, 3);
    embedding({.token_ids = on_card.tensor(),
               .table = &table_there,
               .input_rows = {},
               .positions = {},
               .position_table = nullptr,
               .chosen = before.tensor(),
               .token_source = rows.tensor(),
               .out = out.tensor()},
              gpu.context());
    gpu.stream().synchronize();
    EXPECT_EQ(on_card.array.read(), expected);
    const std::vector<float> got = out.read();
    std::vector<float> row(static_cast<size_t>(C));
    for (int64_t t = 0; t < tokens; ++t) {
      quant::unpack_row(table, expected[static_cast<size_t>(t)], row.data());
      ASSERT_EQ(std::memcmp(got.data() + t * C, row.data(), row.size() * sizeof(float)), 0) << t;
    }
  }
}

TEST_F(CudaElementwise, GatherCopiesRows) {
  CudaMachine gpu(DType::bf16);
  DeviceMatrix x(7, 301, DType::f32, 3), out(4, 301, DType::f32, 1);
  x.fill_normal(1);
  DeviceInts<int32_t> rows({6, 0, 3, 3});
  gather({x.tensor(), rows.tensor(), out.tensor()}, gpu.context());
  const std::vector<float> got = out.read();
  for (size_t r = 0; r < 4; ++r)
    for (size_t c = 0; c < 301; ++c)
      ASSERT_EQ(got[r * 301 + c], x.host()[static_cast<size_t>(rows.values[r]) * 301 + c]) << r << ", " << c;
}

TEST_F(CudaElementwise, KvWriteRoundsIntoTheSlotsAndNowhereElse) {
  CudaMachine gpu(DType::bf16);
  const int64_t T = 4, Hkv = 3, D = 20, pages = 3;
  for (const DType in : kPassing) {
    for (const DType cache : kPassing) {
      DeviceMatrix k(T, Hkv * D, in, 5), v(T, Hkv * D, in, 2);
      k.fill_normal(1);
      v.fill_normal(2);
      DeviceInts<int64_t> slots({64 + 5, -1, 2 * 64 + 63, 0});
      DeviceMatrix k_cache(pages * Hkv * kPageTokens, D, cache, 0),
          v_cache(pages * Hkv * kPageTokens, D, cache, 0);
      const auto view = [&](const DeviceMatrix& m) { return m.tensor().view({pages, Hkv, kPageTokens, D}); };
      kv_write({k.tensor().split_last(Hkv), v.tensor().split_last(Hkv), slots.tensor(), view(k_cache),
                view(v_cache)},
               gpu.context());
      for (auto& [from, to] : {std::pair<DeviceMatrix*, DeviceMatrix*>{&k, &k_cache}, {&v, &v_cache}}) {
        std::vector<float> expected(static_cast<size_t>(pages * Hkv * kPageTokens * D), test::kNan);
        for (int64_t t = 0; t < T; ++t) {
          const int64_t slot = slots.values[static_cast<size_t>(t)];
          if (slot < 0) continue;
          for (int64_t i = 0; i < Hkv * D; ++i)
            expected[static_cast<size_t>(((slot / 64 * Hkv + i / D) * 64 + slot % 64) * D + i % D)] =
                test::rounded(from->host()[static_cast<size_t>(t * Hkv * D + i)], cache);
        }
        const std::vector<float> got = to->read();
        for (size_t i = 0; i < got.size(); ++i)
          ASSERT_TRUE(got[i] == expected[i] || (std::isnan(got[i]) && std::isnan(expected[i])))
              << "element " << i << ": " << got[i] << " for " << expected[i];
      }
    }
  }
}

}  // namespace
}  // namespace llamita
