#include "weights/device_weights.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/check.h"
#include "base/thread_pool.h"
#include "hw/cuda/made_up.h"
#include "hw/cuda/memory.h"

namespace llamita {

namespace {

// A copy of 4 MiB runs at the bus's speed, and 16 of them are in flight at the most: 64 MiB of page-locked
// memory, whose locking alone takes tens of milliseconds.
constexpr size_t kStagingBytes = size_t{4} << 20;
// Reading mapped pages runs at 2 to 5 GB/s a core, the bus at 25 to 50.
constexpr int kMostReaders = 8;

cuda::Stream stream_of(Device device) {
  const cuda::DeviceGuard guard(device.index);
  return {};
}

}  // namespace

DeviceWeights::DeviceWeights(Device device, size_t bytes)
    : device_(device), memory_(cuda::allocate_storage(bytes, device.index)), stream_(stream_of(device)) {}

DeviceWeights::~DeviceWeights() { stop_readers(); }

void DeviceWeights::stop_readers() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    tasks_.clear();
  }
  changed_.notify_all();
  for (std::thread& reader : readers_) reader.join();
  readers_.clear();
}

Storage DeviceWeights::take(size_t bytes) {
  LLAMITA_CHECK(used_ + aligned(bytes) <= memory_.bytes(), "weights of ", used_ + aligned(bytes),
                " bytes where ", memory_.bytes(), " were counted");
  const auto owner = std::make_shared<const Storage>(memory_);
  const Storage piece = Storage::borrow(static_cast<std::byte*>(memory_.data()) + used_, bytes, owner);
  used_ += aligned(bytes);
  return piece;
}

void DeviceWeights::upload(void* to, int64_t rows, size_t row_bytes, Fill fill) {
  LLAMITA_CHECK(row_bytes > 0 && row_bytes <= kStagingBytes, "a row of ", row_bytes, " bytes");
  const auto shared = std::make_shared<const Fill>(std::move(fill));
  const auto step = static_cast<int64_t>(kStagingBytes / row_bytes);
  {
    const std::lock_guard lock(mutex_);
    for (int64_t begin = 0; begin < rows; begin += step) {
      auto* at = static_cast<std::byte*>(to) + static_cast<size_t>(begin) * row_bytes;
      tasks_.push_back({shared, at, begin, std::min(begin + step, rows), row_bytes});
      ++unfinished_;
    }
  }
  const auto readers = static_cast<size_t>(std::clamp(usable_cores(), 1, kMostReaders));
  while (readers_.size() < readers) readers_.emplace_back([this] { read(); });
  changed_.notify_all();
}

void DeviceWeights::make_up(void* to, DType dtype, int64_t elems, const MadeUp& numbers) {
  const cuda::DeviceGuard guard(device_.index);
  cuda::fill_made_up(to, dtype, elems, numbers, stream_);
}

// The next task, or false when there is none: none yet, or with `wait` none any more.
bool DeviceWeights::next(Task& task, bool wait) {
  std::unique_lock lock(mutex_);
  if (wait) changed_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
  if (stopping_ || tasks_.empty()) return false;
  task = std::move(tasks_.front());
  tasks_.pop_front();
  return true;
}

// One reader: while the card fetches one buffer, the other is filled.
void DeviceWeights::read() {
  const auto settle = [this](int64_t bytes, std::exception_ptr failure) {
    const std::lock_guard lock(mutex_);
    --unfinished_;
    done_bytes_ += bytes;
    if (failure && !failure_) failure_ = std::move(failure);
    changed_.notify_all();
  };
  struct Buffer {
    Storage memory;
    cuda::Event copied;
    int64_t bytes = 0;  // under way
  };
  std::unique_ptr<cuda::DeviceGuard> guard;
  std::unique_ptr<cuda::Stream> stream;
  std::vector<Buffer> buffers;
  const auto land = [&](Buffer& buffer) {
    const int64_t bytes = std::exchange(buffer.bytes, 0);  // first: a failure is told once
    if (bytes == 0) return;
    buffer.copied.synchronize();
    settle(bytes, nullptr);
  };
  Task task;
  for (size_t turn = 0;; ++turn) {
    try {
      if (!next(task, false)) {
        for (Buffer& each : buffers) land(each);  // nobody else would while this thread sleeps
        if (!next(task, true)) return;
      }
      if (buffers.empty()) {
        guard = std::make_unique<cuda::DeviceGuard>(device_.index);
        stream = std::make_unique<cuda::Stream>();
        for (int i = 0; i < 2; ++i)
          buffers.push_back({cuda::allocate_pinned(kStagingBytes), cuda::Event(), 0});
      }
      Buffer& buffer = buffers[turn % 2];
      land(buffer);
      copy(task, static_cast<std::byte*>(buffer.memory.data()), *stream);
      stream->record(buffer.copied);
      buffer.bytes = (task.end - task.begin) * static_cast<int64_t>(task.row_bytes);
    } catch (...) {
      settle(0, std::current_exception());
    }
  }
}

void DeviceWeights::copy(const Task& task, std::byte* staging, const cuda::Stream& stream) {
  (*task.fill)(staging, task.begin, task.end);
  cuda::copy_async(task.to, staging, static_cast<size_t>(task.end - task.begin) * task.row_bytes, stream);
}

void DeviceWeights::finish(const std::function<void(int64_t)>& progress) {
  constexpr auto kBetweenReports = std::chrono::milliseconds(50);
  {
    std::unique_lock lock(mutex_);
    while (unfinished_ > 0 && !failure_) {
      changed_.wait_for(lock, kBetweenReports);
      const int64_t done = done_bytes_;
      lock.unlock();
      if (progress) progress(done);
      lock.lock();
    }
  }
  stop_readers();
  stream_.synchronize();
  if (failure_) std::rethrow_exception(failure_);
}

}  // namespace llamita
