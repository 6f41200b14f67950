#include "engine/gpu_sampler.h"

#include <algorithm>

#include "hw/cuda/memory.h"
#include "ops/sampling/steps.h"

namespace llamita {

namespace {

Caps caps_of_host(const ThreadPool& pool) { return {DeviceKind::cpu, cpu::detect_isa(), pool.threads()}; }

// What choosing the tokens of a step's rows takes on the host.
size_t host_arena_bytes(int64_t rows, int64_t vocab, int32_t vocab_limit, const ThreadPool& pool) {
  Arena arena;
  Context context(arena, caps_of_host(pool));
  const Tensor logits(nullptr, DType::f32, {rows, vocab});
  sampling({.logits = logits, .vocab_limit = vocab_limit, .rows = {}, .out = {}}, context);
  return arena.peak();
}

bool has_penalty(const SamplingRow& row) {
  return row.repetition_penalty != 1.0f || row.frequency_penalty != 0.0f || row.presence_penalty != 0.0f;
}

}  // namespace

GpuSampler::GpuSampler(int device, int rows, int64_t vocab, int32_t vocab_limit, ThreadPool& pool)
    : device_{DeviceKind::cuda, device},
      most_rows_(static_cast<size_t>(rows)),
      vocab_(vocab),
      vocab_limit_(vocab_limit),
      pool_(pool),
      tokens_(cuda::allocate_storage(sizeof(int32_t) * most_rows_, device)),
      pinned_tokens_(cuda::allocate_pinned(sizeof(int32_t) * most_rows_ * StepRunner::kSlots)),
      arena_(host_arena_bytes(rows, vocab, vocab_limit, pool)),
      context_(pool, arena_, caps_of_host(pool)) {}

int32_t* GpuSampler::pinned_tokens(int slot) const {
  return static_cast<int32_t*>(pinned_tokens_.data()) + static_cast<size_t>(slot) * most_rows_;
}

Tensor GpuSampler::tokens() const {
  return Tensor(tokens_.data(), DType::i32, {static_cast<int64_t>(most_rows_)}, device_);
}

void GpuSampler::take(std::span<const SamplingRow> rows, const StepInputs& inputs, int slot) {
  LLAMITA_CHECK(rows.size() <= most_rows_, rows.size(), " samplings, room for ", most_rows_);
  Slot& taken = slots_[static_cast<size_t>(slot)];
  taken.rows = rows.size();
  taken.host_rows.clear();
  parameters_.clear();
  for (size_t r = 0; r < rows.size(); ++r) {
    const SamplingRow& row = rows[r];
    const bool constrained = !row.allowed.empty();
    if (constrained || row.logprobs >= 0) {
      taken.host_rows.push_back({r,
                                 row,
                                 {row.allowed.begin(), row.allowed.end()},
                                 {row.seen.begin(), row.seen.end()},
                                 {row.logit_bias.begin(), row.logit_bias.end()}});
    }
    const int32_t token = inputs.logit_rows[r];
    const bool late = inputs.token_source[static_cast<size_t>(token)] >= 0;
    // The host does not know what its own choice follows.
    LLAMITA_CHECK(!(constrained && late), "a form's token is chosen before the one before it is known");
    parameters_.add(constrained ? SamplingRow{.temperature = 0} : row);
    parameters_.rows.back().copy = pinned_tokens(slot) + r;
    if (late && has_penalty(row)) parameters_.rows.back().late = token;
  }
  // Constrained ones first: they are one matrix to the op that chooses among them.
  std::stable_partition(taken.host_rows.begin(), taken.host_rows.end(),
                        [](const HostRow& each) { return !each.allowed.empty(); });
}

void GpuSampler::pad(int rows) {
  if (parameters_.rows.empty()) return;
  while (static_cast<int>(parameters_.rows.size()) < rows) parameters_.add({.temperature = 0});
}

void GpuSampler::fetch_logits(const Tensor& logits, int slot, const cuda::Stream& stream) {
  Slot& fetched = slots_[static_cast<size_t>(slot)];
  const size_t row_bytes = static_cast<size_t>(vocab_) * sizeof(float);
  if (fetched.logits.bytes() < fetched.host_rows.size() * row_bytes)
    fetched.logits = cuda::allocate_pinned(fetched.host_rows.size() * row_bytes);
  auto* to = static_cast<std::byte*>(fetched.logits.data());
  for (const HostRow& each : fetched.host_rows) {
    const auto row = static_cast<int64_t>(each.row);
    cuda::copy_async(to, logits.slice(row, row + 1).data(), row_bytes, stream);
    to += row_bytes;
  }
}

std::span<const SampledToken> GpuSampler::finish(int slot) {
  Slot& done = slots_[static_cast<size_t>(slot)];
  const int32_t* tokens = pinned_tokens(slot);
  done.sampled.assign(done.rows, {});
  for (size_t r = 0; r < done.rows; ++r) done.sampled[r].token = tokens[r];
  if (!done.host_rows.empty()) choose_on_host(done);
  return done.sampled;
}

void GpuSampler::choose_on_host(Slot& slot) {
  const auto* logits = static_cast<const float*>(slot.logits.data());
  chosen_rows_.clear();
  for (const HostRow& each : slot.host_rows) {
    if (each.allowed.empty()) break;
    chosen_rows_.push_back(each.settings);
    chosen_rows_.back().allowed = each.allowed;
    chosen_rows_.back().seen = each.seen;
    chosen_rows_.back().logit_bias = each.bias;
  }
  const auto constrained = static_cast<int64_t>(chosen_rows_.size());
  chosen_.assign(chosen_rows_.size(), {});
  if (constrained > 0) {
    const Arena::Scope scope(arena_);
    sampling({.logits = Tensor::of(logits, {constrained, vocab_}),
              .vocab_limit = vocab_limit_,
              .rows = chosen_rows_,
              .out = chosen_},
             context_);
    for (size_t i = 0; i < chosen_.size(); ++i) slot.sampled[slot.host_rows[i].row] = std::move(chosen_[i]);
  }
  const auto rest = static_cast<int64_t>(slot.host_rows.size()) - constrained;
  pool_.parallel_for(rest, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = constrained + begin; i < constrained + end; ++i) {
      const HostRow& each = slot.host_rows[static_cast<size_t>(i)];
      SampledToken& sampled = slot.sampled[each.row];
      if (sampled.token < 0) continue;
      const std::span<const float> row(logits + i * vocab_, static_cast<size_t>(vocab_limit_));
      sampling_steps::report_probabilities(row, each.settings.logprobs, sampled);
    }
  });
}

}  // namespace llamita
