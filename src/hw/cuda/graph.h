// Graph: the launches that `work` queues on a stream, recorded once and replayed at the cost of one launch.
// Pointers and sizes are frozen at capture, so replayed kernels must find varying data behind fixed pointers.
// `work` must not synchronise, allocate or copy from pageable memory.
//   Graph step = Graph::capture(stream, [&] { norm(...); linear(...); });
//   step.launch(stream);
#pragma once

#include <functional>
#include <utility>

#include "hw/cuda/stream.h"

namespace llamita::cuda {

class Graph {
 public:
  // Nothing runs during the capture. An exception of `work` ends the capture and passes through.
  static Graph capture(const Stream& stream, const std::function<void()>& work);
  ~Graph();
  Graph(Graph&& other) noexcept : exec_(std::exchange(other.exec_, nullptr)) {}
  Graph& operator=(Graph&& other) noexcept {
    std::swap(exec_, other.exec_);
    return *this;
  }

  void launch(const Stream& stream) const;

 private:
  explicit Graph(cudaGraphExec_t exec) : exec_(exec) {}
  cudaGraphExec_t exec_ = nullptr;
};

}  // namespace llamita::cuda
