// Stream and Event: owners of the CUDA handles. Both belong to the device that was current when they were
// made, may be moved, and are not thread-safe: one thread queues on a stream at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

// CUDA's own names of its handles, so that code above needs no CUDA header and compiles in every build.
struct CUstream_st;
struct CUevent_st;
struct CUgraphExec_st;
using cudaStream_t = CUstream_st*;
using cudaEvent_t = CUevent_st*;
using cudaGraphExec_t = CUgraphExec_st*;

namespace llamita::cuda {

class Event {
 public:
  explicit Event(bool timing = false);  // an event without timing is cheaper to record and to wait for
  ~Event();
  Event(Event&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  Event& operator=(Event&& other) noexcept {
    std::swap(event_, other.event_);
    return *this;
  }

  cudaEvent_t get() const { return event_; }
  void synchronize() const;  // the host waits
  bool done() const;

 private:
  cudaEvent_t event_ = nullptr;
};

// Milliseconds from one recorded timing event to a later one; both must be done.
float elapsed_ms(const Event& begin, const Event& end);

class Stream {
 public:
  Stream();
  ~Stream();
  Stream(Stream&& other) noexcept
      : stream_(std::exchange(other.stream_, nullptr)),
        counters_(std::exchange(other.counters_, nullptr)),
        letters_(other.letters_) {}
  Stream& operator=(Stream&& other) noexcept {
    std::swap(stream_, other.stream_);
    std::swap(counters_, other.counters_);
    std::swap(letters_, other.letters_);
    return *this;
  }

  cudaStream_t get() const { return stream_; }
  // Device memory of the stream's own: kCounters zeros. Kernels whose last block has work of its own, or that
  // draw tickets, count here and leave zeros, so two of one stream never see each other's counts.
  static constexpr int kCounters = 16384;
  uint32_t* counters() const { return counters_; }
  // The same of kLetterBytes bytes: words of 64 bits that the blocks of one kernel hand each other as a value
  // and a tag (ptx/letters.cuh). The first word is the last tag that was used; none comes twice.
  static constexpr size_t kLetterBytes = size_t{1} << 20;
  uint64_t* letters() const { return letters_; }
  void synchronize() const;  // the host waits; errors of the queued work are thrown here
  void record(const Event& event) const;
  void wait(const Event& event) const;  // later work of this stream waits, the host does not

 private:
  cudaStream_t stream_ = nullptr;
  uint32_t* counters_ = nullptr;
  uint64_t* letters_ = nullptr;  // in the allocation of counters_
};

}  // namespace llamita::cuda
