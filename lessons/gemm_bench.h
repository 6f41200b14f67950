// Checks and timings of one step of the GEMM ladder, in the process that calls them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "hw/cuda/device_properties.h"
#include "hw/cuda/stream.h"
#include "lessons/cublaslt.h"
#include "lessons/gemm.h"
#include "tensor/storage.h"

namespace llamita::lessons {

struct Shape {
  int m, n, k;
};

// Shapes with every kind of ragged edge, checked before anything is timed.
const std::vector<Shape>& check_shapes();
// Two squares and three layers of an 8B model.
const std::vector<Shape>& ladder_shapes();
// The 40 shapes of the project's target: M 256..8192, the layers of Llama-3.2-3B and Llama-3.1-8B.
std::vector<Shape> grid_shapes();

class GemmBench {
 public:
  GemmBench();

  const cuda::DeviceProperties& device() const { return device_; }

  // Prints a line for each shape that fails; true when none does.
  bool check(const GemmLesson& lesson);

  // The same for every tile choice of steps 11 and 12, whatever their model would choose.
  bool check_tiles();
  // One row: microseconds of every tile choice, the model's clocks in brackets, its choice marked.
  void time_tiles(const Shape& shape);

  // Times the lesson and the peer in alternation and prints a row. Returns peer time / own time, 0 without a
  // peer.
  double time(const GemmLesson& lesson, const Shape& shape);

 private:
  struct Buffers;

  GemmContext context() const { return {stream_.get(), device_.sm_count}; }
  size_t sets_for(const Shape& shape) const;
  double best_peer_us(const Buffers& buffers, int launches, int* algorithm);

  cuda::DeviceProperties device_;
  cuda::Stream stream_;
  std::unique_ptr<CublasLt> peer_;
  uint64_t seed_;
};

}  // namespace llamita::lessons
