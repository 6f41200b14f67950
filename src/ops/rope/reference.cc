// The angle is rounded to f32 before the cosine, because the models were trained with that rounding: at
// position 8000 it moves the angle by up to 2.4e-4. Rotation is elementwise f32.
#include <cmath>

#include "ops/cpu.h"
#include "ops/rope/row.h"
#include "ops/rope/variants.h"

namespace llamita {

void rope_table_reference(const RopeTableArgs& args, Context& context) {
  const int64_t T = args.positions.dim(0), pairs = args.inv_freq.dim(0);
  const int32_t* positions = args.positions.ptr<int32_t>();
  const float* inv_freq = args.inv_freq.ptr<float>();
  context.pool().parallel_for(T, grain_for(64 * pairs), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      float* out = args.out.ptr<float>() + t * args.out.stride(0);
      for (int64_t i = 0; i < pairs; ++i) {
        const float angle = static_cast<float>(positions[t]) * inv_freq[i];
        out[i] = static_cast<float>(std::cos(static_cast<double>(angle)) * args.scale);
        out[pairs + i] = static_cast<float>(std::sin(static_cast<double>(angle)) * args.scale);
      }
    }
  });
}

void rope_head(float* x, const float* cos_sin, int64_t pairs) {
  const float* sines = cos_sin + pairs;
  for (int64_t i = 0; i < pairs; ++i) {
    const float first = x[i], second = x[i + pairs];
    x[i] = first * cos_sin[i] - second * sines[i];
    x[i + pairs] = second * cos_sin[i] + first * sines[i];
  }
}

void rope_reference(const RopeArgs& args, Context& context) {
  const int64_t T = args.x.dim(0), H = args.x.dim(1), D = args.x.dim(2), pairs = args.cos_sin.dim(1) / 2;
  context.pool().parallel_for(T, grain_for(6 * H * pairs), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const float* cos_sin = args.cos_sin.ptr<float>() + t * args.cos_sin.stride(0);
      float* x = args.x.ptr<float>() + t * args.x.stride(0);
      for (int64_t head = 0; head < H; ++head) rope_head(x + head * D, cos_sin, pairs);
    }
  });
}

}  // namespace llamita
