// DeviceWeights: a model's weights in one allocation on a GPU, and how they get there: reader threads turn
// rows of the mapped files into what kernels want, in page-locked buffers, two a thread, whose copies to the
// card overlap with the reading. Limited by the slower of page cache and bus.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "hw/cuda/stream.h"
#include "tensor/made_up.h"
#include "tensor/storage.h"
#include "tensor/tensor.h"

namespace llamita {

class DeviceWeights {
 public:
  static constexpr size_t kAlignment = 256;  // of every weight; what bytes are counted with
  static size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

  // Allocates `bytes`, the sum of aligned sizes of all that will be taken, on the device. Throws Error.
  DeviceWeights(Device device, size_t bytes);
  // What was not copied is dropped; finish() comes first on the good path.
  ~DeviceWeights();
  DeviceWeights(const DeviceWeights&) = delete;
  DeviceWeights& operator=(const DeviceWeights&) = delete;

  Device device() const { return device_; }
  // The next `bytes` of the allocation, which lives as long as any piece of it.
  Storage take(size_t bytes);

  // Writes rows [begin, end) to `out`; called on reader threads, once for each row.
  using Fill = std::function<void(std::byte* out, int64_t begin, int64_t end)>;
  // Queues the filling of `rows` rows of `row_bytes` bytes at `to`, memory of this allocation.
  void upload(void* to, int64_t rows, size_t row_bytes, Fill fill);
  // Queues made-up numbers at `to`, written on the card.
  void make_up(void* to, DType dtype, int64_t elems, const MadeUp& numbers);

  // Waits until everything queued is on the card; `progress` gets the bytes done now and then. Throws what a
  // reader threw.
  void finish(const std::function<void(int64_t done_bytes)>& progress = {});

 private:
  struct Task {
    std::shared_ptr<const Fill> fill;
    std::byte* to;
    int64_t begin, end;
    size_t row_bytes;
  };

  void read();
  void copy(const Task& task, std::byte* staging, const cuda::Stream& stream);
  bool next(Task& task, bool wait);
  void stop_readers();

  Device device_;
  Storage memory_;
  size_t used_ = 0;
  cuda::Stream stream_;  // of made-up numbers

  std::mutex mutex_;  // of all below
  std::condition_variable changed_;
  std::deque<Task> tasks_;
  int64_t unfinished_ = 0;  // tasks queued or under way
  int64_t done_bytes_ = 0;
  std::exception_ptr failure_;
  bool stopping_ = false;
  std::vector<std::thread> readers_;
};

}  // namespace llamita
