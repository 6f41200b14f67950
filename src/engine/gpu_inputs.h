// GpuInputs: a step's inputs on the card, at addresses that depend on the step's sizes alone, so that a graph
// of that size finds its data behind the pointers it was captured with. One copy a step brings all of it,
// from page-locked memory that the step after next takes again: the host may be two steps ahead of the
// copies.
#pragma once

#include <array>

#include "engine/step_inputs.h"
#include "engine/step_runner.h"
#include "hw/cuda/stream.h"
#include "ops/sampling/device_sampling.h"
#include "tensor/storage.h"

namespace llamita {

class GpuInputs {
 public:
  // Room for steps of up to `tokens` tokens in `sequences` sequences with `max_blocks` blocks and `rows` rows
  // of logits, on the current device, whose number is `device`.
  GpuInputs(int device, int tokens, int sequences, int max_blocks, int rows);

  // Whether the entries of these rows (biases, seen tokens) find room. If not, grow() makes it, once nothing
  // runs; all addresses change.
  bool has_room(const DeviceSamplingRows& sampling) const { return sampling.entries.size() <= most_entries_; }
  void grow(const DeviceSamplingRows& sampling);

  struct Uploaded {
    ForwardBatch batch;    // its plan is that of the inputs
    Tensor token_source;   // (T) i32
    Tensor sampling_rows;  // (R, bytes) u8, undefined when nothing is sampled
    Tensor entries;        // (n, bytes) u8; n is the room there is
  };
  // Queues the copy. Waits for the one that used this slot's memory before.
  Uploaded upload(const StepInputs& inputs, const DeviceSamplingRows& sampling, int slot,
                  const cuda::Stream& stream);

 private:
  void allocate();

  int device_;
  size_t step_bytes_;    // of all but entries
  size_t most_entries_;  // of all rows of a step
  std::array<Storage, StepRunner::kSlots> pinned_;
  std::array<cuda::Event, StepRunner::kSlots> copied_;
  Storage memory_;
};

}  // namespace llamita
