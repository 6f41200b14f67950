// LLAMITA_CUDA_CHECK(cudaMemcpyAsync(...)): every call of the CUDA API stands in one. A failure throws Error
// with the call's text, its place and what CUDA says; most are the environment's fault (no memory, no
// driver). It is a DeviceLostError where CUDA's documentation says that the process "must be terminated and
// relaunched".
#pragma once

#include <cuda_runtime_api.h>

namespace llamita::cuda {

[[noreturn]] void throw_error(cudaError_t error, const char* call, const char* file, int line);

}  // namespace llamita::cuda

#define LLAMITA_CUDA_CHECK(call)                                                   \
  do {                                                                             \
    const cudaError_t llamita_cuda_error = (call);                                 \
    if (llamita_cuda_error != cudaSuccess) [[unlikely]]                            \
      ::llamita::cuda::throw_error(llamita_cuda_error, #call, __FILE__, __LINE__); \
  } while (0)
