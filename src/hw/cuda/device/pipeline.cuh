// The ring between a producer that fills stages of shared memory and consumers that read them. Stage s has
// two barriers: full[s] completes when the data of a round has landed, empty[s] when all consumers have let
// it go. In iteration i of the whole kernel the stage is i % kStages and the round i / kStages; the parity to
// wait for follows from the round alone:
//   consumer: wait(full, round & 1)          producer: wait(empty, (round & 1) ^ 1), which passes in round 0.
// A parity tells two neighbouring rounds apart and no more: whoever waits for a round must know that the
// round before it is complete. A role that meets every round knows; one that leaves rounds to others
// (ping-pong) must first hear from them that they saw theirs.
#pragma once

#include <cstdint>

#include "hw/cuda/device/ptx/mbarrier.cuh"

namespace llamita::device {

template <int kStages>
class RingCursor {
 public:
  __device__ __forceinline__ explicit RingCursor(uint32_t iteration = 0)
      : stage_(iteration % kStages), round_(iteration / kStages) {}

  __device__ __forceinline__ uint32_t stage() const { return stage_; }
  __device__ __forceinline__ uint32_t full_parity() const { return round_ & 1; }
  __device__ __forceinline__ uint32_t empty_parity() const { return (round_ & 1) ^ 1; }

  __device__ __forceinline__ void advance() {
    if (++stage_ == kStages) {
      stage_ = 0;
      ++round_;
    }
  }

 private:
  uint32_t stage_;
  uint32_t round_;
};

// Lives in shared memory.
template <int kStages>
struct Ring {
  using Cursor = RingCursor<kStages>;

  uint64_t full[kStages];
  uint64_t empty[kStages];

  // By one thread, before a block (or cluster) barrier. `releases`: calls of release that free a stage.
  __device__ __forceinline__ void init(uint32_t releases) {
#pragma unroll
    for (int s = 0; s < kStages; ++s) {
      ptx::mbarrier_init(&full[s], 1);
      ptx::mbarrier_init(&empty[s], releases);
    }
    ptx::mbarrier_init_fence();
  }

  // Producer: waits until the stage is free, then announces the bytes that its loads will bring.
  __device__ __forceinline__ void acquire(const Cursor& at, uint32_t bytes) {
    ptx::mbarrier_wait(&empty[at.stage()], at.empty_parity());
    ptx::mbarrier_arrive_expect_tx(&full[at.stage()], bytes);
  }

  // The same in round 0, when every stage is free.
  __device__ __forceinline__ void announce(uint32_t stage, uint32_t bytes) {
    ptx::mbarrier_arrive_expect_tx(&full[stage], bytes);
  }

  // Producer of a cluster, last of all: until every release of the last rounds has come. Before that the
  // block may not leave, for other blocks still write to its barriers. `at`: behind the last stage that was
  // filled.
  __device__ __forceinline__ void drain(Cursor at) {
    for (int i = 0; i < kStages; ++i, at.advance()) ptx::mbarrier_wait(&empty[at.stage()], at.empty_parity());
  }

  // Consumer: waits until the stage's data is there.
  __device__ __forceinline__ void wait_full(const Cursor& at) {
    ptx::mbarrier_wait(&full[at.stage()], at.full_parity());
  }

  __device__ __forceinline__ void release(uint32_t stage) { ptx::mbarrier_arrive(&empty[stage]); }
  // The same in block `rank` of the cluster, whose producer also writes our stage.
  __device__ __forceinline__ void release_cluster(uint32_t stage, uint32_t rank) {
    ptx::mbarrier_arrive_cluster(&empty[stage], rank);
  }
};

}  // namespace llamita::device
