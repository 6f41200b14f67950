#include "hw/cuda/launch.h"

#include "hw/cuda/check.h"

namespace llamita::cuda {

namespace {

// 48 KB are free to take, but the kernel's own static shared memory counts too.
constexpr size_t kSmemWithoutAsking = 16 * 1024;

}  // namespace

void launch_raw(const void* kernel, const LaunchConfig& config, void** args) {
  if (config.smem > kSmemWithoutAsking)
    LLAMITA_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                            static_cast<int>(config.smem)));
  cudaLaunchAttribute attributes[2] = {};
  unsigned count = 0;
  if (config.cluster > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count].val.clusterDim.x = static_cast<unsigned>(config.cluster);
    attributes[count].val.clusterDim.y = 1;
    attributes[count].val.clusterDim.z = 1;
    ++count;
  }
  if (config.pdl) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count].val.programmaticStreamSerializationAllowed = 1;
    ++count;
  }
  cudaLaunchConfig_t full{};
  full.gridDim = config.grid;
  full.blockDim = config.block;
  full.dynamicSmemBytes = config.smem;
  full.stream = config.stream;
  full.attrs = attributes;
  full.numAttrs = count;
  LLAMITA_CUDA_CHECK(cudaLaunchKernelExC(&full, kernel, args));
}

}  // namespace llamita::cuda
