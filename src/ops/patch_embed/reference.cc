#include <algorithm>

#include "ops/cpu.h"
#include "ops/patch_embed/variants.h"

namespace llamita {

void patch_embed_reference(const PatchEmbedArgs& args, Context& context) {
  const int64_t S = args.pixels.dim(3), p = args.patch, side = S / p, rows = 1 + side * side;
  const int64_t C = args.class_row.dim(0), K = args.patches.dim(1);
  context.pool().parallel_for(args.x.dim(0), grain_for(C + K), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t image = row / rows, token = row % rows;
      const float* position = args.positions.ptr<float>() + token * C;
      float* x = args.x.ptr<float>() + row * args.x.stride(0);
      for (int64_t c = 0; c < C; ++c) x[c] = position[c] + (token == 0 ? args.class_row.ptr<float>()[c] : 0);
      float* patch = args.patches.ptr<float>() + row * args.patches.stride(0);
      std::fill_n(patch, K, 0.0f);
      if (token == 0) continue;
      const int64_t top = (token - 1) / side * p, left = (token - 1) % side * p;
      for (int64_t plane = 0; plane < 3; ++plane) {
        const float* from = args.pixels.ptr<float>() + (image * 3 + plane) * S * S;
        for (int64_t y = 0; y < p; ++y, patch += p) std::copy_n(from + (top + y) * S + left, p, patch);
      }
    }
  });
}

}  // namespace llamita
