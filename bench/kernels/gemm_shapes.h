// The products that bench_gemm times.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace llamita::bench {

struct Shape {
  int m, n, k;
};

// M of the project's target, if not told, and the layers of Llama-3.2-3B and Llama-3.1-8B.
inline std::vector<Shape> grid_shapes(std::vector<int> tokens) {
  if (tokens.empty()) tokens = {256, 512, 1024, 2048, 8192};
  const int layers[8][2] = {{5120, 3072}, {3072, 3072}, {16384, 3072}, {3072, 8192},
                            {6144, 4096}, {4096, 4096}, {28672, 4096}, {4096, 14336}};  // N, K
  std::vector<Shape> shapes;
  for (const int m : tokens)
    for (const auto& layer : layers) shapes.push_back({m, layer[0], layer[1]});
  return shapes;
}

enum class Epilogue : uint8_t { plain, f32_add, gated, gelu };
constexpr const char* kEpilogues[] = {"plain", "f32_add", "gated", "gelu"};

// The layers that end so: O and down of Llama-3.2-3B and Llama-3.1-8B, gate and up of those and of 3.2-1B,
// the first of a feed-forward block of CLIP-L and GPT-2.
inline std::vector<Shape> tile_shapes(Epilogue epilogue, std::vector<int> tokens) {
  if (epilogue == Epilogue::plain) return grid_shapes(std::move(tokens));
  if (tokens.empty()) tokens = {512, 1024, 2048, 8192};
  const std::vector<std::pair<int, int>> layers[] = {
      {{3072, 3072}, {3072, 8192}, {4096, 4096}, {4096, 14336}},  // N, K
      {{16384, 2048}, {16384, 3072}, {28672, 4096}},
      {{4096, 1024}, {3072, 768}}};
  std::vector<Shape> shapes;
  for (const int m : tokens)
    for (const auto& [n, k] : layers[size_t(epilogue) - 1]) shapes.push_back({m, n, k});
  return shapes;
}

inline std::vector<Shape> ladder_shapes() {  // of lessons/gemm_ladder
  return {{4096, 4096, 4096}, {8192, 8192, 8192}, {512, 4096, 4096}, {2048, 6144, 4096}, {2048, 4096, 14336}};
}

// QKV, O, gate-up, down of Llama-3.2-1B and 3B, Llama-3.1-8B; a head.
inline std::vector<Shape> skinny_shapes(std::vector<int> tokens) {
  if (tokens.empty()) tokens = {1, 2, 4, 8, 12, 16, 32, 64, 128};
  const int layers[13][2] = {{3072, 2048},  {2048, 2048},  {16384, 2048}, {2048, 8192}, {5120, 3072},
                             {3072, 3072},  {16384, 3072}, {3072, 8192},  {6144, 4096}, {4096, 4096},
                             {28672, 4096}, {4096, 14336}, {128256, 3072}};  // N, K
  std::vector<Shape> shapes;
  for (const int m : tokens)
    for (const auto& layer : layers) shapes.push_back({m, layer[0], layer[1]});
  return shapes;
}

}  // namespace llamita::bench
