// A block a row of both outputs. Bound by memory, and short beside the launch: an image of LLaVA-1.5 is 577
// rows of 608 and 1024 elements, 3 MB in all.
#include "ops/cuda/element.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/patch_embed/variants.h"

namespace llamita {

namespace {

constexpr int kThreads = 256;

struct PatchEmbedParams {
  const float* pixels;
  const float* class_row;
  const float* positions;
  void* patches;
  float* x;
  int64_t patches_stride, x_stride;
  int side;   // S
  int patch;  // p
  int rows;   // 1 + P
  int K, C;
  DType dtype;  // of patches
};

__global__ void __launch_bounds__(kThreads) embed_patches(const __grid_constant__ PatchEmbedParams p) {
  device::wait_for_predecessor();
  device::start_successor();
  const int64_t row = blockIdx.x;
  const int image = blockIdx.x / p.rows, token = blockIdx.x % p.rows;
  for (int c = threadIdx.x; c < p.C; c += kThreads) {
    const float position = p.positions[int64_t{token} * p.C + c];
    p.x[row * p.x_stride + c] = token == 0 ? position + p.class_row[c] : position;
  }
  const int across = p.side / p.patch, area = p.patch * p.patch;
  const int top = (token - 1) / across * p.patch, left = (token - 1) % across * p.patch;
  for (int k = threadIdx.x; k < p.K; k += kThreads) {
    float value = 0;
    if (token > 0 && k < 3 * area) {
      const int plane = k / area, y = k % area / p.patch, x = k % p.patch;
      value = p.pixels[((int64_t{image} * 3 + plane) * p.side + top + y) * p.side + left + x];
    }
    device::store_float(p.patches, p.dtype, row * p.patches_stride + k, value);
  }
}

}  // namespace

void patch_embed_cuda(const PatchEmbedArgs& args, Context& context) {
  const PatchEmbedParams params{.pixels = args.pixels.ptr<float>(),
                                .class_row = args.class_row.ptr<float>(),
                                .positions = args.positions.ptr<float>(),
                                .patches = args.patches.data(),
                                .x = args.x.ptr<float>(),
                                .patches_stride = args.patches.stride(0),
                                .x_stride = args.x.stride(0),
                                .side = static_cast<int>(args.pixels.dim(3)),
                                .patch = static_cast<int>(args.patch),
                                .rows = static_cast<int>(args.positions.dim(0)),
                                .K = static_cast<int>(args.patches.dim(1)),
                                .C = static_cast<int>(args.class_row.dim(0)),
                                .dtype = args.patches.dtype()};
  launch(context, embed_patches, dim3(static_cast<unsigned>(args.x.dim(0))), kThreads, 0, params);
}

}  // namespace llamita
