// Memory of the card and page-locked memory of the host, owned by the same Storage that tensors use on the
// CPU.
//   Storage weights = cuda::allocate_storage(bytes, 0);
//   Tensor w(weights.data(), DType::bf16, {n, k}, Device{DeviceKind::cuda, 0});
#pragma once

#include <cstddef>
#include <cstdint>

#include "hw/cuda/stream.h"
#include "tensor/storage.h"

namespace llamita::cuda {

// Fresh memory of the card, 256-byte aligned, contents undefined. Throws Error when the card has too little
// left.
Storage allocate_storage(size_t bytes, int device);

// Page-locked host memory, for copies that overlap with kernels. Contents undefined.
Storage allocate_pinned(size_t bytes);

// How often the two above gave memory, since the process began: a test sees whether steps take any.
int64_t allocations();

// Queue a copy between any two of host and device memory. From pageable memory the host waits for the staging
// copy.
void copy_async(void* to, const void* from, size_t bytes, const Stream& stream);
void fill_async(void* to, int byte, size_t bytes, const Stream& stream);

struct MemoryInfo {
  size_t free_bytes;
  size_t total_bytes;
};
MemoryInfo memory_info(int device);

// Makes `device` current for the calling thread, and the former one again at the end of the scope.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device);
  ~DeviceGuard();
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  [[maybe_unused]] int former_ = 0;
};

}  // namespace llamita::cuda
