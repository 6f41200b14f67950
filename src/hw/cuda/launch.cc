#include "hw/cuda/launch.h"

#include "hw/cuda/check.h"

namespace llamita::cuda {

namespace {

// 48 KB are free to take, but the kernel's own static shared memory counts too.
constexpr size_t kSmemWithoutAsking = 16 * 1024;
constexpr int kPortableCluster = 8;  // blocks; more must be asked for

void allow_smem(const void* kernel, size_t bytes) {
  if (bytes > kSmemWithoutAsking)
    LLAMITA_CUDA_CHECK(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)));
}

void allow_cluster(const void* kernel, int blocks) {
  if (blocks > kPortableCluster)
    LLAMITA_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1));
}

cudaLaunchAttribute cluster_attribute(int blocks) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = static_cast<unsigned>(blocks);
  attribute.val.clusterDim.y = 1;
  attribute.val.clusterDim.z = 1;
  return attribute;
}

}  // namespace

void launch_raw(const void* kernel, const LaunchConfig& config, void** args) {
  allow_smem(kernel, config.smem);
  allow_cluster(kernel, config.cluster);
  cudaLaunchAttribute attributes[3] = {};
  unsigned count = 0;
  if (config.cluster > 1) attributes[count++] = cluster_attribute(config.cluster);
  if (config.pdl) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count].val.programmaticStreamSerializationAllowed = 1;
    ++count;
  }
  if (config.cooperative) {
    attributes[count].id = cudaLaunchAttributeCooperative;
    attributes[count].val.cooperative = 1;
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

int active_clusters_raw(const void* kernel, const LaunchConfig& config) {
  allow_smem(kernel, config.smem);
  allow_cluster(kernel, config.cluster);
  cudaLaunchAttribute attribute = cluster_attribute(config.cluster);
  cudaLaunchConfig_t full{};
  full.gridDim = dim3(static_cast<unsigned>(config.cluster));
  full.blockDim = config.block;
  full.dynamicSmemBytes = config.smem;
  full.attrs = &attribute;
  full.numAttrs = 1;
  int clusters = 0;
  LLAMITA_CUDA_CHECK(cudaOccupancyMaxActiveClusters(&clusters, kernel, &full));
  return clusters;
}

}  // namespace llamita::cuda
