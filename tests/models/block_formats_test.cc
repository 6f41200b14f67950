// A model in any block format computes what its twin computes whose weights were unpacked to F32 beforehand:
// blocks run as they are, fused weights may mix formats, and nothing is lost on the way.
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "quant/blocks.h"
#include "quant/pack.h"
#include "quant/unpack.h"
#include "support/exact_linear.h"
#include "support/gguf_builder.h"
#include "support/model_steps.h"
#include "support/temp_dir.h"

namespace llamita {
namespace {

using test::GgufBuilder;

constexpr int64_t kHidden = 256, kFfn = 512, kVocab = 64, kHeads = 4, kKvHeads = 2;

// The scale of one block, so that a row has unit length or so.
template <class Block>
void set_scales(std::string& row, std::mt19937& random) {
  std::uniform_real_distribution<float> scale(0.5f, 1.5f);
  for (size_t at = 0; at < row.size(); at += sizeof(Block)) {
    auto* block = reinterpret_cast<Block*>(row.data() + at);
    const auto put = [](quant::Half& half, float value) {
      const uint16_t bits = to_f16(value).bits;
      half.bytes[0] = static_cast<uint8_t>(bits);
      half.bytes[1] = static_cast<uint8_t>(bits >> 8);
    };
    put(block->d, scale(random) * 0.0005f);
    if constexpr (requires { block->dmin; }) put(block->dmin, scale(random) * 0.0005f);
  }
}

// Random rows in `format`: every bit pattern of quants and sub-scales may occur.
std::string random_rows(DType format, int64_t rows, int64_t cols, std::mt19937& random) {
  std::string out;
  std::normal_distribution<float> normal(0.0f, 1.0f / 16);
  for (int64_t n = 0; n < rows; ++n) {
    std::string row(static_cast<size_t>(row_bytes(format, cols)), '\0');
    for (char& byte : row) byte = static_cast<char>(random());
    switch (format) {
      case DType::q2_k: set_scales<quant::BlockQ2_K>(row, random); break;
      case DType::q3_k: set_scales<quant::BlockQ3_K>(row, random); break;
      case DType::q4_k: set_scales<quant::BlockQ4_K>(row, random); break;
      case DType::q5_k: set_scales<quant::BlockQ5_K>(row, random); break;
      case DType::q6_k: set_scales<quant::BlockQ6_K>(row, random); break;
      case DType::iq4_nl: set_scales<quant::BlockIQ4_NL>(row, random); break;
      default: {
        std::vector<float> values(static_cast<size_t>(cols));
        for (float& value : values) value = normal(random);
        quant::pack_row(format, values.data(), row.data(), cols);
      }
    }
    out += row;
  }
  return out;
}

struct Twins {
  std::string packed, unpacked;  // GGUF files with the same values, in blocks and in F32
};

// `other` is the format of V and of the head.
Twins make_twins(DType format, DType other) {
  std::mt19937 random(7);
  GgufBuilder packed, unpacked;
  for (GgufBuilder* file : {&packed, &unpacked}) {
    file->kv("general.architecture", "llama")
        .kv("llama.block_count", uint32_t{1})
        .kv("llama.context_length", uint32_t{512})
        .kv("llama.embedding_length", static_cast<uint32_t>(kHidden))
        .kv("llama.feed_forward_length", static_cast<uint32_t>(kFfn))
        .kv("llama.attention.head_count", static_cast<uint32_t>(kHeads))
        .kv("llama.attention.head_count_kv", static_cast<uint32_t>(kKvHeads))
        .kv("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  }
  const auto matrix = [&](const char* name, DType dtype, int64_t rows, int64_t cols) {
    const std::string data = random_rows(dtype, rows, cols, random);
    std::string floats(static_cast<size_t>(rows * cols) * sizeof(float), '\0');
    for (int64_t n = 0; n < rows; ++n) {
      quant::unpack_row(dtype, data.data() + n * row_bytes(dtype, cols),
                        reinterpret_cast<float*>(floats.data()) + n * cols, cols);
    }
    packed.tensor(name, dtype, {rows, cols}, data);
    unpacked.tensor(name, DType::f32, {rows, cols}, floats);
  };
  const auto vector = [&](const char* name) {
    const std::string data = random_rows(DType::f32, 1, kHidden, random);
    for (GgufBuilder* file : {&packed, &unpacked}) file->tensor(name, DType::f32, {kHidden}, data);
  };
  const int64_t kv_rows = kHidden / kHeads * kKvHeads;
  matrix("token_embd.weight", format, kVocab, kHidden);
  vector("blk.0.attn_norm.weight");
  matrix("blk.0.attn_q.weight", format, kHidden, kHidden);
  matrix("blk.0.attn_k.weight", format, kv_rows, kHidden);
  matrix("blk.0.attn_v.weight", other, kv_rows, kHidden);
  matrix("blk.0.attn_output.weight", format, kHidden, kHidden);
  vector("blk.0.ffn_norm.weight");
  matrix("blk.0.ffn_gate.weight", format, kFfn, kHidden);
  matrix("blk.0.ffn_up.weight", format, kFfn, kHidden);
  matrix("blk.0.ffn_down.weight", format, kHidden, kFfn);
  vector("output_norm.weight");
  matrix("output.weight", other, kVocab, kHidden);
  return {packed.build(), unpacked.build()};
}

class BlockFormats : public testing::TestWithParam<std::pair<DType, DType>> {
 protected:
  // NMSE of the packed model's logits against its twin's.
  static double error_of_packed() {
    const test::TempDir dir;
    const Twins twins = make_twins(GetParam().first, GetParam().second);
    const auto packed = load_model(dir.write("packed.gguf", twins.packed));
    const auto unpacked = load_model(dir.write("unpacked.gguf", twins.unpacked));
    std::vector<int32_t> ids;
    for (int i = 0; i < 70; ++i) ids.push_back((i * 29 + 5) % kVocab);
    const std::vector<float> got = test::ModelSteps(*packed).run({{0, ids}});
    const std::vector<float> want = test::ModelSteps(*unpacked).run({{0, ids}});
    EXPECT_EQ(got.size(), want.size());
    double error = 0, power = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      error += static_cast<double>(got[i] - want[i]) * static_cast<double>(got[i] - want[i]);
      power += static_cast<double>(want[i]) * static_cast<double>(want[i]);
    }
    EXPECT_GT(power, 0);
    if (GetParam().first != DType::f32) {
      EXPECT_LT(packed->weight_bytes(), unpacked->weight_bytes());
    }
    return error / power;
  }
};

TEST_P(BlockFormats, ComputeWhatTheirUnpackedTwinComputes) {
  const test::ExactLinear exact;
  EXPECT_LE(error_of_packed(), 1e-10);
}

// Seven multiplications, one after the other, with activations rounded to int8: 3e-5 to 5e-5 each. bf16
// weights may meet activations in bf16.
TEST_P(BlockFormats, StayNearTheirTwinWithRoundedActivations) {
  const DType format = GetParam().first;
  EXPECT_LE(error_of_packed(), is_block(format) ? 1e-3 : format == DType::bf16 ? 1e-4 : 1e-10);
}

// Rotary rows are reordered and fused parts of two formats interleaved on the way: no bit may change.
TEST_P(BlockFormats, AnInterleavedModelGivesTheSameBits) {
  const test::TempDir dir;
  const std::string path = dir.write("packed.gguf", make_twins(GetParam().first, GetParam().second).packed);
  Placement placement;
  placement.layout = quant::Layout::interleaved;
  const auto rows = load_model(path), interleaved = load_model(path, {}, placement);
  EXPECT_EQ(interleaved->weight_bytes(), rows->weight_bytes());
  EXPECT_GE(measure_model(TensorFiles::open(path), placement).copied_bytes,
            measure_model(TensorFiles::open(path)).copied_bytes);
  std::vector<int32_t> ids;
  for (int i = 0; i < 70; ++i) ids.push_back((i * 29 + 5) % kVocab);
  const std::vector<float> want = test::ModelSteps(*rows).run({{0, ids}});
  const std::vector<float> got = test::ModelSteps(*interleaved).run({{0, ids}});
  ASSERT_EQ(got.size(), want.size());
  EXPECT_EQ(std::memcmp(got.data(), want.data(), want.size() * sizeof(float)), 0);
}

INSTANTIATE_TEST_SUITE_P(
    All, BlockFormats,
    testing::Values(std::pair(DType::f32, DType::f32), std::pair(DType::f16, DType::f16),
                    std::pair(DType::bf16, DType::bf16), std::pair(DType::q4_0, DType::q4_0),
                    std::pair(DType::q4_1, DType::q8_0), std::pair(DType::q5_0, DType::q5_0),
                    std::pair(DType::q5_1, DType::q5_1), std::pair(DType::q8_0, DType::q8_0),
                    std::pair(DType::q2_k, DType::q6_k), std::pair(DType::q3_k, DType::q5_k),
                    std::pair(DType::q4_k, DType::q6_k), std::pair(DType::q5_k, DType::q5_k),
                    std::pair(DType::q6_k, DType::f16), std::pair(DType::iq4_nl, DType::q5_k)),
    [](const auto& formats) {
      return std::string(name(formats.param.first)) + "_with_" + std::string(name(formats.param.second));
    });

}  // namespace
}  // namespace llamita
