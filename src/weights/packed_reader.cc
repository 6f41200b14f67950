#include "weights/packed_reader.h"

#include <algorithm>
#include <system_error>

#include "base/checksum.h"
#include "base/log.h"
#include "base/thread_pool.h"
#include "llamita/error.h"

namespace llamita {

namespace {

// A thread takes two huge pages at a time, so that no two of them wait for the zeros of the same one for
// long.
constexpr size_t kTaskPieces = (size_t{4} << 20) / kPackedPieceBytes;
// Some cores fill what memory takes, as when reading for a GPU (device_weights.cc).
constexpr int kMostThreads = 8;

}  // namespace

PackedReader::PackedReader(std::unique_ptr<const InputFile> file, PackedHeader header)
    : file_(std::move(file)), header_(std::move(header)), states_(header_.parts.size()) {
  memory_ = std::make_shared<const Storage>(Storage::allocate(header_.file_bytes - header_.header_bytes));
  for (size_t i = 0; i < header_.parts.size(); ++i) {
    const PackedPart& part = header_.parts[i].part;
    by_name_.emplace(part.name, i);
    const size_t pieces = (static_cast<size_t>(part.bytes()) + kPackedPieceBytes - 1) / kPackedPieceBytes;
    states_[i].sums.resize(pieces);
    for (size_t first = 0; first < pieces; first += kTaskPieces, ++states_[i].tasks)
      tasks_.push_back({i, first, std::min(first + kTaskPieces, pieces)});
  }
  // take() reads too, so it works without any thread.
  const size_t threads =
      std::min(static_cast<size_t>(std::clamp(usable_cores(), 1, kMostThreads)), tasks_.size());
  threads_.reserve(threads);
  try {
    while (threads_.size() + 1 < threads) {
      threads_.emplace_back([this] {
        while (run_next()) {
        }
      });
    }
  } catch (const std::system_error&) {
  }
}

PackedReader::~PackedReader() {
  next_.store(tasks_.size());
  for (std::thread& thread : threads_) thread.join();
}

std::byte* PackedReader::place(size_t part) const {
  return static_cast<std::byte*>(memory_->data()) + (header_.parts[part].offset - header_.header_bytes);
}

std::span<std::byte> PackedReader::piece(size_t part, size_t index) const {
  const auto bytes = static_cast<size_t>(header_.parts[part].part.bytes());
  const size_t begin = index * kPackedPieceBytes;
  return {place(part) + begin, std::min(kPackedPieceBytes, bytes - begin)};
}

bool PackedReader::run_next() {
  const size_t task = next_.fetch_add(1);
  if (task >= tasks_.size()) return false;
  read(tasks_[task]);
  return true;
}

void PackedReader::read(const Task& task) {
  State& state = states_[task.part];
  bool readable = true;
  try {
    for (size_t i = task.first; i < task.last; ++i) {
      const std::span<std::byte> bytes = piece(task.part, i);
      file_->read_at(header_.parts[task.part].offset + i * kPackedPieceBytes, bytes);
      state.sums[i] = checksum64(bytes);
    }
  } catch (const Error& error) {
    log_info(error.what());
    readable = false;
  }
  {
    const std::lock_guard lock(mutex_);
    --state.tasks;
    state.unreadable |= !readable;
  }
  changed_.notify_all();
}

Storage PackedReader::take(const PackedPart& part) {
  const auto at = by_name_.find(part.name);
  if (at == by_name_.end()) return {};
  const size_t index = at->second;
  const PackedEntry& entry = header_.parts[index];
  State& state = states_[index];
  if (!(entry.part == part)) return {};
  const auto is_done = [&] {
    const std::lock_guard lock(mutex_);
    return state.tasks == 0;
  };
  while (!is_done()) {
    if (run_next()) continue;
    std::unique_lock lock(mutex_);  // others are at its last tasks
    changed_.wait(lock, [&] { return state.tasks == 0; });
  }
  if (state.unreadable || checksum_of_pieces(state.sums) != entry.checksum) return {};
  return Storage::borrow(place(index), static_cast<size_t>(part.bytes()), memory_);
}

}  // namespace llamita
