#include "hw/cuda/graph.h"

#include <cuda_runtime_api.h>

#include "hw/cuda/check.h"

namespace llamita::cuda {

Graph Graph::capture(const Stream& stream, const std::function<void()>& work) {
  cudaGraph_t recorded = nullptr;
  LLAMITA_CUDA_CHECK(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal));
  try {
    work();
  } catch (...) {
    cudaStreamEndCapture(stream.get(), &recorded);
    if (recorded != nullptr) cudaGraphDestroy(recorded);
    cudaGetLastError();
    throw;
  }
  LLAMITA_CUDA_CHECK(cudaStreamEndCapture(stream.get(), &recorded));
  cudaGraphExec_t exec = nullptr;
  const cudaError_t made = cudaGraphInstantiate(&exec, recorded, 0);
  cudaGraphDestroy(recorded);
  LLAMITA_CUDA_CHECK(made);
  return Graph(exec);
}

Graph::~Graph() {
  if (exec_ != nullptr) cudaGraphExecDestroy(exec_);
}

void Graph::launch(const Stream& stream) const { LLAMITA_CUDA_CHECK(cudaGraphLaunch(exec_, stream.get())); }

}  // namespace llamita::cuda
