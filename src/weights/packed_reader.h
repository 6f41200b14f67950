// Reads a file of packed weights into memory of huge pages: from the first part to the last, on as many
// threads as there are cores, while the loader takes what is there. Copied and not mapped: copying tells what
// is damaged on the way, and a file cut short meanwhile is an error and no SIGBUS.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/input_file.h"
#include "tensor/storage.h"
#include "weights/packed_header.h"

namespace llamita {

class PackedReader {
 public:
  // `header` is the file's. Throws Error when there is no memory.
  PackedReader(std::unique_ptr<const InputFile> file, PackedHeader header);
  // What nobody waits for any more is not read.
  ~PackedReader();
  PackedReader(const PackedReader&) = delete;
  PackedReader& operator=(const PackedReader&) = delete;

  // This part's bytes once they are read; nothing when the file has no such part, or has it damaged. One
  // caller at a time.
  Storage take(const PackedPart& part);
  size_t parts() const { return header_.parts.size(); }

 private:
  struct State {                 // of a part
    std::vector<uint64_t> sums;  // of its pieces
    size_t tasks = 0;            // not yet done
    bool unreadable = false;
  };
  // Consecutive pieces of one part.
  struct Task {
    size_t part, first, last;
  };

  bool run_next();  // false: every task has been begun
  void read(const Task& task);
  std::span<std::byte> piece(size_t part, size_t index) const;
  std::byte* place(size_t part) const;

  std::unique_ptr<const InputFile> file_;
  PackedHeader header_;
  std::unordered_map<std::string, size_t> by_name_;
  std::shared_ptr<const Storage> memory_;  // of all parts, as they lie in the file
  std::vector<Task> tasks_;
  std::atomic<size_t> next_{0};

  std::mutex mutex_;  // of tasks and unreadable below
  std::condition_variable changed_;
  std::vector<State> states_;
  std::vector<std::thread> threads_;
};

}  // namespace llamita
