// patch_embed: which pixel goes where, written out as the definition says it.
#include "ops/patch_embed/patch_embed.h"

#include "ops/op_test_support.h"

namespace llamita {
namespace {

using test::Machine;
using test::Matrix;

TEST(PatchEmbed, LaysPatchesOutAndAddsPositions) {
  for (const int threads : {1, 2}) {
    Machine machine(threads, cpu::best_isa());
    constexpr int64_t n = 2, S = 12, p = 4, side = S / p, tokens = 1 + side * side, C = 10, K = 52;
    Matrix pixels(n * 3 * S, S), class_row(1, C), positions(tokens, C), patches(n * tokens, K, 3),
        x(n * tokens, C, 5);
    test::fill_normal(pixels, 1);
    test::fill_normal(class_row, 2);
    test::fill_normal(positions, 3);
    PatchEmbedArgs args{.pixels = Tensor(pixels.row(0), DType::f32, {n, 3, S, S}),
                        .class_row = Tensor(class_row.row(0), DType::f32, {C}),
                        .positions = Tensor(positions.row(0), DType::f32, {tokens, C}),
                        .patch = p,
                        .patches = patches.tensor(),
                        .x = x.tensor()};
    patch_embed(args, machine.context());
    for (int64_t image = 0; image < n; ++image) {
      for (int64_t token = 0; token < tokens; ++token) {
        const int64_t row = image * tokens + token;
        for (int64_t c = 0; c < C; ++c)
          ASSERT_EQ(x.row(row)[c], positions.row(token)[c] + (token == 0 ? class_row.row(0)[c] : 0.0f));
        for (int64_t k = 0; k < K; ++k) {
          float want = 0;
          if (token > 0 && k < 3 * p * p) {
            const int64_t plane = k / (p * p), y = (token - 1) / side * p + k % (p * p) / p;
            want = pixels.row((image * 3 + plane) * S + y)[(token - 1) % side * p + k % p];
          }
          ASSERT_EQ(patches.row(row)[k], want) << "row " << row << ", column " << k;
        }
      }
    }
  }
}

}  // namespace
}  // namespace llamita
