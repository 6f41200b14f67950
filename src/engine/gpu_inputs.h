// GpuInputs: a step's inputs on the card, at addresses that depend on the step's sizes alone, so that a graph
// of that size finds its data behind the pointers it was captured with. One copy a step brings all of it.
#pragma once

#include "engine/step_inputs.h"
#include "hw/cuda/stream.h"
#include "tensor/storage.h"

namespace llamita {

class GpuInputs {
 public:
  // Room for steps of up to `tokens` tokens in `sequences` sequences with `max_blocks` blocks and `rows` rows
  // of logits, on the current device, whose number is `device`.
  GpuInputs(int device, int tokens, int sequences, int max_blocks, int rows);

  // Queues the copy. Waits for the one before, whose page-locked memory it takes. The batch's plan is that of
  // `inputs`.
  ForwardBatch upload(const StepInputs& inputs, const cuda::Stream& stream);

 private:
  int device_;
  Storage pinned_, memory_;
  cuda::Event copied_;
};

}  // namespace llamita
