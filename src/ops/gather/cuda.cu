// A block copies a row.
#include "ops/cuda/launch.cuh"
#include "ops/gather/variants.h"

namespace llamita {

namespace {

constexpr int kThreads = 256;

struct GatherParams {
  const float* x;
  const int32_t* rows;
  float* out;
  int64_t x_stride, out_stride;
  int count;  // rows of x
  int columns;
};

__global__ void __launch_bounds__(kThreads) gather_rows(const GatherParams p) {
  device::wait_for_predecessor();
  device::start_successor();
  // An index out of range is a mistake of the caller's that must not read what is not ours.
  const int row = min(max(p.rows[blockIdx.x], 0), p.count - 1);
  for (int c = threadIdx.x; c < p.columns; c += kThreads)
    p.out[blockIdx.x * p.out_stride + c] = p.x[row * p.x_stride + c];
}

}  // namespace

void gather_cuda(const GatherArgs& args, Context& context) {
  const GatherParams params{.x = args.x.ptr<float>(),
                            .rows = args.rows.ptr<int32_t>(),
                            .out = args.out.ptr<float>(),
                            .x_stride = args.x.stride(0),
                            .out_stride = args.out.stride(0),
                            .count = static_cast<int>(args.x.dim(0)),
                            .columns = static_cast<int>(args.x.dim(1))};
  launch(context, gather_rows, dim3(static_cast<unsigned>(args.rows.dim(0))), kThreads, 0, params);
}

}  // namespace llamita
