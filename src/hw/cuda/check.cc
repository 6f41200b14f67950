#include "hw/cuda/check.h"

#include <string>

#include "base/cat.h"
#include "llamita/error.h"

namespace llamita::cuda {

namespace {

// Every later call of this process fails with them, too.
bool is_sticky(cudaError_t error) {
  switch (error) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorAssert:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContextIsDestroyed: return true;
    default: return false;
  }
}

}  // namespace

void throw_error(cudaError_t error, const char* call, const char* file, int line) {
  cudaGetLastError();  // an error that is not sticky must not come back from the next call
  std::string advice;
  if (error == cudaErrorMemoryAllocation) advice = "; free GPU memory or take a smaller model or KV cache";
  if (error == cudaErrorInsufficientDriver) advice = "; update the NVIDIA driver";
  const std::string message = cat("CUDA: ", call, " at ", file, ":", line, " failed with ",
                                  cudaGetErrorName(error), " (", cudaGetErrorString(error), ")", advice);
  if (is_sticky(error)) throw DeviceLostError(message);
  throw Error(message);
}

}  // namespace llamita::cuda
