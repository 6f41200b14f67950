#include "hw/cuda/memory.h"

#include <cuda_runtime_api.h>

#include <atomic>
#include <memory>

#include "hw/cuda/check.h"

namespace llamita::cuda {

namespace {

std::atomic<int64_t>& allocation_count() {
  static std::atomic<int64_t> count = 0;
  return count;
}

}  // namespace

int64_t allocations() { return allocation_count().load(); }

Storage allocate_storage(size_t bytes, int device) {
  if (bytes == 0) return {};
  const DeviceGuard guard(device);
  void* data = nullptr;
  LLAMITA_CUDA_CHECK(cudaMalloc(&data, bytes));
  ++allocation_count();
  // cudaFree waits for the device's work, so memory never goes while a kernel still reads it.
  std::shared_ptr<const void> owner(data, [](const void* p) { cudaFree(const_cast<void*>(p)); });
  return Storage::borrow(data, bytes, std::move(owner));
}

Storage allocate_pinned(size_t bytes) {
  if (bytes == 0) return {};
  void* data = nullptr;
  LLAMITA_CUDA_CHECK(cudaMallocHost(&data, bytes));
  ++allocation_count();
  std::shared_ptr<const void> owner(data, [](const void* p) { cudaFreeHost(const_cast<void*>(p)); });
  return Storage::borrow(data, bytes, std::move(owner));
}

void copy_async(void* to, const void* from, size_t bytes, const Stream& stream) {
  LLAMITA_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream.get()));
}

void fill_async(void* to, int byte, size_t bytes, const Stream& stream) {
  LLAMITA_CUDA_CHECK(cudaMemsetAsync(to, byte, bytes, stream.get()));
}

MemoryInfo memory_info(int device) {
  const DeviceGuard guard(device);
  MemoryInfo info{};
  LLAMITA_CUDA_CHECK(cudaMemGetInfo(&info.free_bytes, &info.total_bytes));
  return info;
}

DeviceGuard::DeviceGuard(int device) {
  LLAMITA_CUDA_CHECK(cudaGetDevice(&former_));
  if (device != former_) LLAMITA_CUDA_CHECK(cudaSetDevice(device));
}

DeviceGuard::~DeviceGuard() { cudaSetDevice(former_); }

}  // namespace llamita::cuda
