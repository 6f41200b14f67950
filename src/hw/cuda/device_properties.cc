#include "hw/cuda/device_properties.h"

#include <cuda_runtime_api.h>

#include "base/cat.h"
#include "hw/cuda/check.h"
#include "llamita/error.h"

namespace llamita::cuda {

bool built_in() { return true; }

int device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  return count;
}

DeviceProperties device_properties(int device) {
  const int count = device_count();
  if (device < 0 || device >= count)
    throw Error(
        cat("expected a CUDA device below ", count, ", got ", device, ": choose one that nvidia-smi lists"));
  cudaDeviceProp found{};
  LLAMITA_CUDA_CHECK(cudaGetDeviceProperties(&found, device));
  DeviceProperties properties;
  properties.name = found.name;
  properties.major = found.major;
  properties.minor = found.minor;
  properties.sm_count = found.multiProcessorCount;
  properties.l2_bytes = static_cast<size_t>(found.l2CacheSize);
  properties.smem_per_block = found.sharedMemPerBlockOptin;
  properties.memory_bytes = found.totalGlobalMem;
  int clock_khz = 0;
  LLAMITA_CUDA_CHECK(cudaDeviceGetAttribute(&clock_khz, cudaDevAttrClockRate, device));
  // A multiprocessor's dense bf16 operations a clock: 2048 of sm_80, 1024 of sm_86 and sm_89, 4096 of sm_90.
  const double each = found.major >= 9 ? 4096 : found.minor == 0 ? 2048 : 1024;
  properties.bf16_flops_per_second = each * found.multiProcessorCount * 1e3 * clock_khz;
  return properties;
}

}  // namespace llamita::cuda
