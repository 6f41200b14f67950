// launch(kernel, {.grid = .., .block = .., .smem = .., .stream = ..}, params): every kernel starts here, so
// that shared memory above 48 KB, clusters and programmatic dependent launch (PDL) are asked for in one way
// and every launch is checked. With `pdl` the kernel may start while its predecessor in the stream still
// runs; it must call ptx::grid_dependency_wait() before it touches anything the predecessor writes or reads.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <type_traits>

namespace llamita::cuda {

struct LaunchConfig {
  dim3 grid{1, 1, 1};
  dim3 block{128, 1, 1};
  size_t smem = 0;  // dynamic shared memory, bytes
  cudaStream_t stream = nullptr;
  // Blocks a cluster along x; must divide grid.x. More than 8 (up to 16) find room on some cards only:
  // active_clusters() says whether.
  int cluster = 1;
  bool pdl = false;
  bool cooperative = false;  // all blocks run at one time, so that they may wait for each other; or an error
};

// `kernel` is a __global__ function and args[i] points to its i-th parameter. Throws Error when the launch is
// refused.
void launch_raw(const void* kernel, const LaunchConfig& config, void** args);

template <class... Params>
void launch(void (*kernel)(Params...), const LaunchConfig& config, std::type_identity_t<Params>... params) {
  void* args[] = {static_cast<void*>(&params)..., nullptr};
  launch_raw(reinterpret_cast<const void*>(kernel), config, args);
}

// How many clusters of such a launch run at one time when they have the card for themselves.
int active_clusters_raw(const void* kernel, const LaunchConfig& config);

template <class... Params>
int active_clusters(void (*kernel)(Params...), const LaunchConfig& config) {
  return active_clusters_raw(reinterpret_cast<const void*>(kernel), config);
}

}  // namespace llamita::cuda
