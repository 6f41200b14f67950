// What the CUDA variants of all ops share on the host: when they are supported, and the roofs that their
// estimates divide by. Free of CUDA headers: the tables include it in every build.
#pragma once

#include <algorithm>

#include "ops/context.h"

namespace llamita {

template <class Args>
bool on_cuda(const Args&, const Caps& caps) {
  return caps.device == DeviceKind::cuda;
}

// Roofs of a card as kernels reach them, from what an H100 gives (2.7 TB/s of reads in a chain of kernels,
// 450 TFLOP/s by mma.sync, 1.2 us from launch to launch in a graph). Estimates only compare variants.
inline double cuda_memory_us(const Caps& caps, double bytes) {
  return bytes / (caps.arch >= 90 ? 2.7e6 : 1.4e6);
}
inline double cuda_mma_us(const Caps& caps, double flops) {
  return flops / (3.4e6 * std::max(caps.sm_count, 1));
}
inline constexpr double kCudaLaunchUs = 1.2;

// Bytes moved at the roof, after `launches` launches.
inline double cuda_streaming_us(const Cost& cost, const Caps& caps, int launches = 1) {
  return launches * kCudaLaunchUs + cuda_memory_us(caps, cost.bytes_read + cost.bytes_written);
}

// What the norm in every block of gemv.cuh adds, as measured on llama-3.2-3b.
inline double cuda_gemv_norm_us(int64_t tokens) { return 2 + 2 * static_cast<double>(tokens); }

}  // namespace llamita
