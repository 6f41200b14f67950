// Turns of the consumer warpgroups of a block: one queues its multiplies while the others are in their
// softmax (FlashAttention-3's ping-pong). Group c waits at named barrier kFirst + c, which the group before
// it completes by arriving after each queueing of its own. All groups must take the same number of turns. The
// last group arrives once before all and the first one waits once after all, so that no barrier is left half
// full.
#pragma once

#include "hw/cuda/device/ptx/sync.cuh"

namespace llamita::device {

template <int kGroups, int kFirst>
class Turns {
 public:
  __device__ __forceinline__ explicit Turns(int group)
      : own_(kFirst + group), next_(kFirst + (group + 1) % kGroups) {
    if (group == kGroups - 1) pass_on();
  }
  __device__ __forceinline__ void take() const { ptx::named_barrier_sync(own_, kPair); }
  __device__ __forceinline__ void pass_on() const { ptx::named_barrier_arrive(next_, kPair); }
  // `group`: as above. Not kept: it would be spilled for this one use.
  __device__ __forceinline__ void finish(int group) const {
    if (group == 0) take();
  }

 private:
  static constexpr int kPair = 256;  // threads: who passes on and who takes
  int own_, next_;
};

}  // namespace llamita::device
