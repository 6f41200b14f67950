// How ops launch kernels: on the context's stream, each able to start before its predecessor ends (PDL).
// Every kernel calls wait_for_predecessor() before it touches anything that another kernel writes or still
// reads, and start_successor() as early as it can: the successor then waits where it must, not at its
// start.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "base/check.h"
#include "hw/cuda/device/ptx/sync.cuh"
#include "hw/cuda/launch.h"
#include "hw/cuda/stream.h"
#include "ops/context.h"

namespace llamita {

// PDL is an instruction of the sm_90 code. A newer card runs what was compiled for sm_80, without it.
inline bool has_pdl(const Caps& caps) { return caps.arch / 10 == 9; }

template <class... Params>
void launch(const Context& context, void (*kernel)(Params...), dim3 grid, int threads, size_t smem,
            std::type_identity_t<Params>... params) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  cuda::launch(kernel,
               {.grid = grid,
                .block = dim3(static_cast<unsigned>(threads)),
                .smem = smem,
                .stream = context.stream().get(),
                .pdl = has_pdl(context.caps())},
               params...);
}

// f.template operator()<Element>() with the device type of a 16-bit float dtype.
template <class F>
void with_half_type(DType dtype, F&& f) {
  LLAMITA_CHECK(dtype == DType::bf16 || dtype == DType::f16, "a kernel for ", name(dtype));
  if (dtype == DType::bf16)
    f.template operator()<__nv_bfloat16>();
  else
    f.template operator()<__half>();
}

// The same for f32 too.
template <class F>
void with_float_type(DType dtype, F&& f) {
  if (dtype == DType::f32)
    f.template operator()<float>();
  else
    with_half_type(dtype, f);
}

// A pointer that may be absent.
template <class T>
T* data_or_null(const Tensor& tensor) {
  return tensor.defined() ? static_cast<T*>(tensor.data()) : nullptr;
}

inline unsigned ceil_div(int64_t a, int64_t b) { return static_cast<unsigned>((a + b - 1) / b); }

namespace device {

__device__ __forceinline__ void wait_for_predecessor() {
#if __CUDA_ARCH__ >= 900
  ptx::grid_dependency_wait();
#endif
}

__device__ __forceinline__ void start_successor() {
#if __CUDA_ARCH__ >= 900
  ptx::grid_launch_dependents();
#endif
}

}  // namespace device
}  // namespace llamita
