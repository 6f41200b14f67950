#include "hw/cuda/check.h"

#include <string>

#include "base/cat.h"
#include "llamita/error.h"

namespace llamita::cuda {

void throw_error(cudaError_t error, const char* call, const char* file, int line) {
  cudaGetLastError();  // an error that is not sticky must not come back from the next call
  std::string advice;
  if (error == cudaErrorMemoryAllocation) advice = "; free GPU memory or take a smaller model or KV cache";
  if (error == cudaErrorInsufficientDriver) advice = "; update the NVIDIA driver";
  throw Error(cat("CUDA: ", call, " at ", file, ":", line, " failed with ", cudaGetErrorName(error), " (",
                  cudaGetErrorString(error), ")", advice));
}

}  // namespace llamita::cuda
