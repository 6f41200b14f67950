// Worker: a few threads and a bounded queue, for what takes too long for the I/O thread: parsing bodies,
// tokenising, rendering templates, compiling grammars.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace llamita::server {

class Worker {
 public:
  Worker(int threads, size_t most_waiting);
  // Finishes the tasks under way, drops those that wait.
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // False when the queue is full. Tasks must not throw.
  bool run(std::function<void()> task);

 private:
  void work();

  const size_t most_waiting_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> tasks_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace llamita::server
