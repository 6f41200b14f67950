// What the harnesses of the ladders share: guarded buffers, graphs that are timed, and a process for each
// lesson.
#pragma once

#include <cuda_bf16.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "hw/cuda/graph.h"
#include "hw/cuda/memory.h"
#include "hw/cuda/stream.h"

namespace llamita::lessons {

inline constexpr size_t kGuard = 1024;  // elements of poison before and after each matrix

inline double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// A matrix between two stretches of NaN: what reads or writes outside it shows.
struct Guarded {
  Storage storage;
  size_t count = 0;

  Guarded(size_t elements, const cuda::Stream& stream)
      : storage(cuda::allocate_storage((elements + 2 * kGuard) * 2, 0)), count(elements) {
    poison(stream);
  }
  __nv_bfloat16* data() const { return static_cast<__nv_bfloat16*>(storage.data()) + kGuard; }
  void poison(const cuda::Stream& stream) const {
    cuda::fill_async(storage.data(), 0xFF, storage.bytes(), stream);
  }
  bool guards_intact(const cuda::Stream& stream) const {
    std::vector<uint16_t> seen(2 * kGuard);
    cuda::copy_async(seen.data(), storage.data(), kGuard * 2, stream);
    cuda::copy_async(seen.data() + kGuard, data() + count, kGuard * 2, stream);
    stream.synchronize();
    return std::all_of(seen.begin(), seen.end(), [](uint16_t v) { return v == 0xFFFF; });
  }
};

// `launches` runs over the buffer sets as one graph, so that the host's cost of a launch is not in the
// figure.
class TimedGraph {
 public:
  TimedGraph(const cuda::Stream& stream, int launches, const std::function<void(int)>& run)
      : stream_(stream), launches_(launches), graph_(cuda::Graph::capture(stream, [&] {
          for (int i = 0; i < launches; ++i) run(i);
        })) {}
  double microseconds() const {  // of one run
    stream_.record(begin_);
    graph_.launch(stream_);
    stream_.record(end_);
    end_.synchronize();
    return cuda::elapsed_ms(begin_, end_) * 1e3 / launches_;
  }

 private:
  const cuda::Stream& stream_;
  int launches_;
  cuda::Graph graph_;
  cuda::Event begin_{true}, end_{true};
};

// Runs this program again as `name arguments...` and ends it after `seconds`: a kernel that hangs or faults
// costs its own rows and no others. True when it left with success.
bool run_child(const char* name, const std::vector<std::string>& arguments, int seconds);

}  // namespace llamita::lessons
