// GpuSampler: a step's tokens. The card chooses them where the logits are and writes each twice: into its own
// memory, where the next step reads it (embedding), and into page-locked memory, where the host finds it once
// the step is done. What the card cannot do goes to the host with the row's logits: probabilities of a token
// that the card chose, and choices among the tokens of a form.
#pragma once

#include <array>
#include <span>
#include <utility>
#include <vector>

#include "base/thread_pool.h"
#include "engine/step_inputs.h"
#include "engine/step_runner.h"
#include "hw/cuda/stream.h"
#include "ops/sampling/device_sampling.h"
#include "ops/sampling/sampling.h"
#include "tensor/arena.h"

namespace llamita {

class GpuSampler {
 public:
  // For steps of up to `rows` samplings of (rows, vocab) logits on the current device, whose number is
  // `device`. Ids from `vocab_limit` on are never chosen. Borrows the pool.
  GpuSampler(int device, int rows, int64_t vocab, int32_t vocab_limit, ThreadPool& pool);

  // Takes what the step of this slot shall choose; nothing of the rows is read later. `inputs`: not padded.
  void take(std::span<const SamplingRow> rows, const StepInputs& inputs, int slot);
  // Greedy rows that nobody asks for, up to `rows` in all; none where nothing is sampled.
  void pad(int rows);

  // Of the step last taken: its parameters on the card, and whether the host must see logits.
  const DeviceSamplingRows& parameters() const { return parameters_; }
  bool wants_logits(int slot) const { return !slots_[static_cast<size_t>(slot)].host_rows.empty(); }
  // (rows) i32 on the card: what the last step chose, by row.
  Tensor tokens() const;

  // Queues the copies of the logits (R, V) that the host must see, before the card changes them.
  void fetch_logits(const Tensor& logits, int slot, const cuda::Stream& stream);
  // The tokens of a step that is done.
  std::span<const SampledToken> finish(int slot);

 private:
  // A row that the host has a part in, with all that its settings point to.
  struct HostRow {
    size_t row;
    SamplingRow settings;
    std::vector<uint32_t> allowed;
    std::vector<SeenToken> seen;
    std::vector<std::pair<int32_t, float>> bias;
  };
  struct Slot {
    size_t rows = 0;
    std::vector<HostRow> host_rows;
    Storage logits;  // (host_rows, V) f32, page-locked; made when first wanted
    std::vector<SampledToken> sampled;
  };

  int32_t* pinned_tokens(int slot) const;
  void choose_on_host(Slot& slot);

  Device device_;
  size_t most_rows_;
  int64_t vocab_;
  int32_t vocab_limit_;
  ThreadPool& pool_;
  Storage tokens_, pinned_tokens_;
  DeviceSamplingRows parameters_;
  std::array<Slot, StepRunner::kSlots> slots_;
  // Of choices on the host.
  Arena arena_;
  Context context_;
  std::vector<SamplingRow> chosen_rows_;
  std::vector<SampledToken> chosen_;
};

}  // namespace llamita
