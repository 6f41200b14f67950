// GpuInputs: a step's inputs on the card, at addresses that depend on the step's slot and sizes alone, so
// that a graph of that slot and size finds its data behind the pointers it was captured with. One copy a step
// brings all of it, from page-locked memory and on a stream of its own: while the step before runs, so that
// it is there when its own step begins.
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
  // Starts the copy; what is queued on the stream from now on waits for it. The step that used this slot
  // before must be done.
  Uploaded upload(const StepInputs& inputs, const DeviceSamplingRows& sampling, int slot,
                  const cuda::Stream& stream);

 private:
  void allocate(size_t entries);

  int device_;
  size_t step_bytes_;        // of all but entries
  size_t most_entries_ = 0;  // of all rows of a step
  cuda::Stream copies_;
  struct Slot {
    Storage pinned, memory;
    cuda::Event copied;
  };
  std::array<Slot, StepRunner::kSlots> slots_;
};

}  // namespace llamita
