// Made-up weights. One element a thread and step of the grid; the store binds, and this runs once a model.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>

#include "base/check.h"
#include "hw/cuda/launch.h"
#include "hw/cuda/made_up.h"

namespace llamita::cuda {

namespace {

struct Params {
  void* to;
  int64_t elems;
  MadeUp numbers;
};

__device__ void store(float* to, float value) { *to = value; }
__device__ void store(__half* to, float value) { *to = __float2half_rn(value); }
__device__ void store(__nv_bfloat16* to, float value) { *to = __float2bfloat16_rn(value); }

template <class Element>
__global__ void made_up_kernel(const __grid_constant__ Params params) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < params.elems; i += step)
    store(static_cast<Element*>(params.to) + i, made_up_value(params.numbers, static_cast<uint64_t>(i)));
}

template <class Element>
void fill(const Params& params, const Stream& stream) {
  constexpr int kThreads = 256;
  const auto blocks =
      static_cast<unsigned>(std::min<int64_t>((params.elems + kThreads - 1) / kThreads, 4096));
  launch(made_up_kernel<Element>, {.grid = dim3(blocks), .block = dim3(kThreads), .stream = stream.get()},
         params);
}

}  // namespace

void fill_made_up(void* to, DType dtype, int64_t elems, const MadeUp& numbers, const Stream& stream) {
  if (elems == 0) return;
  const Params params{to, elems, numbers};
  switch (dtype) {
    case DType::f32: return fill<float>(params, stream);
    case DType::f16: return fill<__half>(params, stream);
    case DType::bf16: return fill<__nv_bfloat16>(params, stream);
    default: LLAMITA_CHECK(false, "made-up weights are f32, f16 or bf16, not ", name(dtype));
  }
}

}  // namespace llamita::cuda
