// A model of one layer in each of GGUF's block formats on a GPU: the five whose packed bytes kernels read,
// and those that are unpacked at load, which is said. The CPU reads the same file without rounding
// activations.
#include <gtest/gtest.h>

#include <cmath>

#include "engine/compute_device.h"
#include "engine/direct_runner.h"
#include "hw/cuda/device_properties.h"
#include "ops/op_test_support.h"
#include "quant/unpack.h"
#include "support/distributions.h"
#include "support/exact_linear.h"
#include "support/gguf_builder.h"
#include "support/temp_dir.h"

namespace llamita {
namespace {

constexpr int kVocab = 200, kHidden = 256, kFfn = 512, kHeads = 4, kKvHeads = 2, kHeadDim = 64;

// The root of the mean square of random weights, which differs from format to format.
double size_of_weights(DType format) {
  constexpr int64_t kRows = 64;
  const quant::Part part = test::random_part(format, kRows, kHidden, 99);
  std::vector<float> row(kHidden);
  double squares = 0;
  for (int64_t n = 0; n < kRows; ++n) {
    const auto* bytes = static_cast<const std::byte*>(part.storage.data()) + n * row_bytes(format, kHidden);
    quant::unpack_row(format, bytes, row.data(), kHidden);
    for (const float value : row) squares += double{value} * value;
  }
  return std::sqrt(squares / (kRows * kHidden));
}

// Every matrix in `format`. Norms make what products and the head give of unit size.
std::string one_layer(DType format) {
  test::GgufBuilder file;
  file.kv("general.architecture", "llama")
      .kv("llama.block_count", int32_t{1})
      .kv("llama.context_length", int32_t{128})
      .kv("llama.embedding_length", int32_t{kHidden})
      .kv("llama.feed_forward_length", int32_t{kFfn})
      .kv("llama.attention.head_count", int32_t{kHeads})
      .kv("llama.attention.head_count_kv", int32_t{kKvHeads})
      .kv("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  const auto unit = static_cast<float>(1 / (std::sqrt(kHidden) * size_of_weights(format)));
  uint32_t seed = 1;
  const auto matrix = [&](const char* name, int64_t rows, int64_t cols) {
    const quant::Part part = test::random_part(format, rows, cols, seed++);
    file.tensor(name, format, {rows, cols},
                std::string(static_cast<const char*>(part.storage.data()), part.storage.bytes()));
  };
  const auto norm = [&](const char* name, float value) {
    const std::vector<float> values(kHidden, value);
    file.tensor(name, DType::f32, {kHidden},
                std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)));
  };
  matrix("token_embd.weight", kVocab, kHidden);
  norm("blk.0.attn_norm.weight", unit);
  matrix("blk.0.attn_q.weight", kHeads * kHeadDim, kHidden);
  matrix("blk.0.attn_k.weight", kKvHeads * kHeadDim, kHidden);
  matrix("blk.0.attn_v.weight", kKvHeads * kHeadDim, kHidden);
  matrix("blk.0.attn_output.weight", kHidden, kHeads * kHeadDim);
  norm("blk.0.ffn_norm.weight", unit);
  matrix("blk.0.ffn_gate.weight", kFfn, kHidden);
  matrix("blk.0.ffn_up.weight", kFfn, kHidden);
  matrix("blk.0.ffn_down.weight", kHidden, kFfn);
  norm("output_norm.weight", unit);
  matrix("output.weight", kVocab, kHidden);
  return file.build();
}

class GpuBlockFormats : public testing::TestWithParam<DType> {};

TEST_P(GpuBlockFormats, GivesTheCpusDistributions) {
  if (cuda::device_count() == 0) GTEST_SKIP() << "there is no NVIDIA GPU here";
  const test::TempDir folder;
  const std::string path = folder.write("model.gguf", one_layer(GetParam()));
  EngineConfig cpu, gpu;
  cpu.device = "cpu";
  cpu.kv_dtype = "f32";
  gpu.device = "cuda";
  cpu.context = gpu.context = 128;
  std::vector<int32_t> ids;
  for (int i = 0; i < 60; ++i) ids.push_back(i * 37 % kVocab);
  std::vector<float> want;
  {
    const test::ExactLinear exact;
    const auto model = load_model(path);
    want = DirectRunner(*model, cpu).logits_of(ids);
  }
  testing::internal::CaptureStderr();
  const auto model = load_model(path, {}, choose_placement(gpu));
  const std::string said = testing::internal::GetCapturedStderr();
  const bool is_packed = choose_placement(gpu).format_of(GetParam()) == GetParam();
  EXPECT_EQ(said.find("unpacked to") == std::string::npos, is_packed) << said;
  const std::vector<float> got = DirectRunner(*model, gpu).logits_of(ids);
  ASSERT_EQ(got.size(), want.size());
  EXPECT_LE(test::mean_kl(want, got, kVocab), 1e-3);
  EXPECT_EQ(test::clear_choices_missed(want, got, kVocab, 0.5f), 0);
}

INSTANTIATE_TEST_SUITE_P(Formats, GpuBlockFormats,
                         testing::Values(DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1, DType::q8_0,
                                         DType::iq4_nl, DType::q2_k, DType::q3_k, DType::q4_k, DType::q5_k,
                                         DType::q6_k),
                         [](const auto& info) { return std::string(name(info.param)); });

}  // namespace
}  // namespace llamita
