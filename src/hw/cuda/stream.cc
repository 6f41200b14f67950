#include "hw/cuda/stream.h"

#include <cuda_runtime_api.h>

#include "hw/cuda/check.h"

namespace llamita::cuda {

Event::Event(bool timing) {
  LLAMITA_CUDA_CHECK(cudaEventCreateWithFlags(&event_, timing ? cudaEventDefault : cudaEventDisableTiming));
}

Event::~Event() {
  if (event_ != nullptr) cudaEventDestroy(event_);
}

void Event::synchronize() const { LLAMITA_CUDA_CHECK(cudaEventSynchronize(event_)); }

bool Event::done() const {
  const cudaError_t state = cudaEventQuery(event_);
  if (state == cudaErrorNotReady) return false;
  LLAMITA_CUDA_CHECK(state);
  return true;
}

float elapsed_ms(const Event& begin, const Event& end) {
  float ms = 0;
  LLAMITA_CUDA_CHECK(cudaEventElapsedTime(&ms, begin.get(), end.get()));
  return ms;
}

Stream::Stream() {
  LLAMITA_CUDA_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  constexpr size_t kBytes = kCounters * sizeof(uint32_t) + kLetterBytes;
  void* memory = nullptr;
  LLAMITA_CUDA_CHECK(cudaMalloc(&memory, kBytes));
  counters_ = static_cast<uint32_t*>(memory);
  letters_ = reinterpret_cast<uint64_t*>(counters_ + kCounters);
  LLAMITA_CUDA_CHECK(cudaMemsetAsync(memory, 0, kBytes, stream_));
}

Stream::~Stream() {
  if (stream_ == nullptr) return;
  cudaStreamSynchronize(stream_);  // nothing may count any more
  cudaFree(counters_);
  cudaStreamDestroy(stream_);
}

void Stream::synchronize() const { LLAMITA_CUDA_CHECK(cudaStreamSynchronize(stream_)); }

void Stream::record(const Event& event) const { LLAMITA_CUDA_CHECK(cudaEventRecord(event.get(), stream_)); }

void Stream::wait(const Event& event) const {
  LLAMITA_CUDA_CHECK(cudaStreamWaitEvent(stream_, event.get(), 0));
}

}  // namespace llamita::cuda
