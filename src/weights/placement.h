// Placement: where weights shall live and in which formats.
#pragma once

#include "quant/weight.h"
#include "tensor/dtype.h"
#include "tensor/tensor.h"

namespace llamita {

struct Placement {
  Device device;                               // the CPU: where they lie in the mapped files
  DType activation = DType::f32;               // of a GPU: what passes between ops, bf16 or f16
  quant::Layout layout = quant::Layout::rows;  // of the CPU's matrices in blocks that are fit for it

  bool on_gpu() const { return device.kind == DeviceKind::cuda; }
  // The format in which a stored one is kept. A GPU keeps F16, BF16 and the blocks that have kernels as they
  // are; F32 and the other blocks become `activation`.
  DType format_of(DType stored) const;
};

}  // namespace llamita
