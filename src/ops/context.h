// Context: what an op needs besides its arguments: threads, the arena for scratch and results, the
// capabilities of the machine, which variants are forced, and where to record what ran.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/thread_pool.h"
#include "hw/cpu/isa.h"
#include "tensor/arena.h"

namespace llamita {

namespace cuda {
class Stream;
}

// What a variant may rely on.
struct Caps {
  DeviceKind device = DeviceKind::cpu;
  cpu::Isa isa = cpu::Isa::generic;
  int threads = 1;
  // Of what passes between ops but for the residual stream and the logits, which are f32: f32 on the CPU,
  // bf16 or f16 on a GPU.
  DType activation = DType::f32;
  // Of a GPU.
  int device_index = 0;
  int arch = 0;  // compute capability: 80, 90, ...
  int sm_count = 0;
};

// Work an op does at the least: each input read once, each output written once.
struct Cost {
  double bytes_read = 0;
  double bytes_written = 0;
  double flops = 0;
};

struct OpRecord {
  std::string_view op;
  std::string_view variant;
  Cost cost;
  double microseconds = 0;  // 0 in a dry run
};

// Times ops where they only queue their work: what lies between start() and stop() on the device. Whoever
// reads the records fills their microseconds in once the work is done.
class OpTimer {
 public:
  virtual ~OpTimer() = default;
  virtual void start() = 0;
  virtual void stop() = 0;
};

// Throws Error when LLAMITA_KERNEL is no list of op=variant or names an op that does not exist, as every
// Context does; asked before weights are read.
void check_forced_variants();

class Context {
 public:
  // Real execution. Borrows both.
  Context(ThreadPool& pool, Arena& arena, Caps caps);
  // The same on a GPU: ops queue their work on the stream, and what they read and write is on the device.
  Context(const cuda::Stream& stream, Arena& arena, Caps caps);
  // A dry run: ops check their arguments, record themselves and take their scratch, but touch no data.
  Context(Arena& measuring_arena, Caps caps);

  bool dry_run() const { return pool_ == nullptr && stream_ == nullptr; }
  ThreadPool& pool() const;
  const cuda::Stream& stream() const;
  Arena& arena() const { return *arena_; }
  const Caps& caps() const { return caps_; }

  // Every op executed appends a record here while set (nullptr: off).
  void record_to(std::vector<OpRecord>* records) { records_ = records; }
  std::vector<OpRecord>* records() const { return records_; }
  // On a GPU: called around every op that is recorded (nullptr: the time of queueing is recorded).
  void time_with(OpTimer* timer) { timer_ = timer; }
  OpTimer* timer() const { return timer_; }

  // The variant that LLAMITA_KERNEL (say "attention=flash1_sm80,linear=reference") forces for this op, or "".
  std::string_view forced_variant(std::string_view op) const;

  // Logs at debug level, once for each pair, which variant of an op runs.
  void log_choice(std::string_view op, std::string_view variant);

 private:
  ThreadPool* pool_ = nullptr;
  const cuda::Stream* stream_ = nullptr;
  Arena* arena_;
  Caps caps_;
  std::vector<OpRecord>* records_ = nullptr;
  OpTimer* timer_ = nullptr;
  std::unordered_map<std::string, std::string> forced_;
  std::unordered_set<std::string> logged_;
};

}  // namespace llamita
