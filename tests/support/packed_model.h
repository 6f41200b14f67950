// A small GGUF file whose matrices the CPU's loader packs in every way that GGUF asks for, and loading it.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "quant/pack.h"
#include "support/gguf_builder.h"
#include "weights/loader.h"
#include "weights/packed_cache.h"

namespace llamita::test {

inline std::string random_packed_rows(DType format, int64_t rows, int64_t cols, int seed) {
  std::mt19937 random(static_cast<uint32_t>(seed));
  std::normal_distribution<float> normal(0.0f, 1.0f);
  std::vector<float> values(static_cast<size_t>(cols));
  std::string out;
  for (int64_t n = 0; n < rows; ++n) {
    std::string row(static_cast<size_t>(row_bytes(format, cols)), '\0');
    for (float& value : values) value = normal(random);
    quant::pack_row(format, values.data(), row.data(), cols);
    out += row;
  }
  return out;
}

constexpr int64_t kPackedCols = 64, kPackedRows = 32;
constexpr int kPackedHeadDim = 8;

// Q and K in two formats, both with rotary rows to be put in order; V in F32, whose rows stay; up in Q8_0.
inline std::string packed_model(int seed = 1) {
  GgufBuilder file;
  file.kv("general.architecture", "llama");
  const auto matrix = [&](const char* name, DType format) {
    file.tensor(name, format, {kPackedRows, kPackedCols},
                random_packed_rows(format, kPackedRows, kPackedCols, seed++));
  };
  matrix("blk.0.attn_q.weight", DType::q4_0);
  matrix("blk.0.attn_k.weight", DType::q4_1);
  matrix("blk.0.attn_v.weight", DType::q8_0);
  matrix("blk.1.attn_q.weight", DType::f16);
  matrix("blk.1.attn_k.weight", DType::f32);
  matrix("blk.1.attn_v.weight", DType::f32);
  matrix("blk.0.ffn_up.weight", DType::q8_0);
  return file.build();
}

using Bytes = std::vector<std::byte>;

// Every part's bytes of such a model, in order.
inline std::vector<Bytes> load_packed_model(const std::string& path, const std::string& folder,
                                            quant::Layout layout = quant::Layout::interleaved,
                                            int head_dim = kPackedHeadDim) {
  const TensorFiles files = TensorFiles::of(gguf::File::open(path));
  std::optional<PackedCache> cache;
  if (!folder.empty()) cache.emplace(folder, files, layout);
  WeightLoader loader(files, {}, {.layout = layout}, cache ? &*cache : nullptr);
  std::vector<quant::Weight> weights;
  for (const char* layer : {"0", "1"}) {
    const auto name = [&](char which) {
      return std::string("model.layers.") + layer + ".self_attn." + which + "_proj.weight";
    };
    const PartSpec parts[] = {{"q", name('q'), kPackedRows, head_dim},
                              {"k", name('k'), kPackedRows, head_dim},
                              {"v", name('v'), kPackedRows}};
    weights.push_back(loader.linear(parts, kPackedCols));
  }
  weights.push_back(loader.linear({"up", "model.layers.0.mlp.up_proj.weight", kPackedRows}, kPackedCols));
  if (cache) cache->save();
  cache.reset();  // what was given out lives on without it
  std::vector<Bytes> out;
  for (const quant::Weight& weight : weights) {
    for (const quant::Part& part : weight.parts) {
      const auto* bytes = static_cast<const std::byte*>(part.storage.data());
      out.emplace_back(bytes, bytes + part.storage.bytes());
    }
  }
  return out;
}

// The only file in a folder that is there; "" when there is none. Fails the test when there are more.
inline std::string only_file(const std::filesystem::path& folder) {
  std::string found;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    EXPECT_EQ(found, "") << entry.path();
    found = entry.path().string();
  }
  return found;
}

inline std::string file_content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace llamita::test
