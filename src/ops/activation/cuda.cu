// A thread an element; rows along the grid's y. Bound by memory.
#include "ops/activation/device.cuh"
#include "ops/activation/variants.h"
#include "ops/cuda/element.cuh"
#include "ops/cuda/launch.cuh"

namespace llamita {

namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostRows = 65535;  // of the grid's y

struct ActivationParams {
  const void* gate;
  const void* up;  // or nullptr
  void* out;
  int64_t gate_stride, up_stride, out_stride;
  int64_t rows;
  int columns;
  DType dtype, out_dtype;  // of gate and up; of out
  Activation kind;
};

__global__ void __launch_bounds__(kThreads) activate_elements(const ActivationParams p) {
  device::wait_for_predecessor();
  device::start_successor();
  const int f = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (f >= p.columns) return;
  for (int64_t t = blockIdx.y; t < p.rows; t += gridDim.y) {
    float value = device::activate(p.kind, device::load_float(p.gate, p.dtype, t * p.gate_stride + f));
    if (p.up != nullptr) value *= device::load_float(p.up, p.dtype, t * p.up_stride + f);
    device::store_float(p.out, p.out_dtype, t * p.out_stride + f, value);
  }
}

}  // namespace

void activation_cuda(const ActivationArgs& args, Context& context) {
  const int64_t T = args.gate.dim(0), F = args.gate.dim(1);
  const ActivationParams params{.gate = args.gate.data(),
                                .up = data_or_null<void>(args.up),
                                .out = args.out.data(),
                                .gate_stride = args.gate.stride(0),
                                .up_stride = args.up.defined() ? args.up.stride(0) : 0,
                                .out_stride = args.out.stride(0),
                                .rows = T,
                                .columns = static_cast<int>(F),
                                .dtype = args.gate.dtype(),
                                .out_dtype = args.out.dtype(),
                                .kind = args.kind};
  const dim3 grid(ceil_div(F, kThreads), static_cast<unsigned>(std::min(T, kMostRows)));
  launch(context, activate_elements, grid, kThreads, 0, params);
}

}  // namespace llamita
