// StepRunner of the CPU: ops run as they are called, so a step is done when submit() returns.
#include <algorithm>
#include <cstring>
#include <optional>

#include "base/log.h"
#include "engine/image_rows.h"
#include "engine/step_runner.h"
#include "quant/kv_side.h"

namespace llamita {

namespace {

class CpuRunner : public StepRunner {
 public:
  CpuRunner(const Model& model, const MemoryPlan& plan, int32_t vocab_limit, ThreadPool& pool)
      : model_(model), vocab_limit_(vocab_limit), pool_(pool), caps_(plan.caps) {
    cache_ = shape_only_cache(model.config(), plan.shape);
    for (KvCache::Layer& layer : cache_.layers) {
      for (Tensor* tensor : {&layer.k, &layer.v}) {
        cache_memory_.push_back(Storage::allocate(static_cast<size_t>(kv_side_bytes(*tensor))));
        *tensor = kv_side(cache_memory_.back().data(), cache_.format, tensor->dim(0), tensor->dim(1),
                          tensor->dim(3));
      }
    }
    provide_arena(static_cast<size_t>(plan.arena_bytes));
    const auto copy = [](void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); };
    if (model.config().vision)
      images_.emplace(model, plan, DeviceMemory{Device{}, Storage::allocate, copy, copy});
  }

  void submit(StepInputs& inputs, std::span<const SamplingRow> rows, bool keep_hidden, int slot) override {
    take_tokens_of(sampled_[static_cast<size_t>(last_slot_)], inputs);
    grow_arena();
    const auto width = static_cast<size_t>(model_.config().hidden);
    hidden_.assign(keep_hidden ? static_cast<size_t>(inputs.tokens()) * width : 0, 0.0f);
    const Arena::Scope scope(*arena_);
    const Tensor logits = forward(inputs);
    std::vector<SampledToken>& sampled = sampled_[static_cast<size_t>(slot)];
    sampled.assign(rows.size(), {});
    last_slot_ = slot;
    if (rows.empty()) return;
    sampling({.logits = logits,
              .vocab_limit = vocab_limit_,
              .rows = with_late_tokens(rows, inputs),
              .out = sampled},
             *context_);
  }
  std::span<const SampledToken> collect(int slot) override { return sampled_[static_cast<size_t>(slot)]; }

  void step_logits(StepInputs& inputs, std::vector<float>& out) override {
    grow_arena();
    hidden_.clear();
    const Arena::Scope scope(*arena_);
    const Tensor logits = forward(inputs);
    out.insert(out.end(), logits.ptr<float>(), logits.ptr<float>() + logits.elems());
  }

  void synchronize() override {}
  std::span<const float> hidden() const override { return hidden_; }
  void record_to(std::vector<OpRecord>* records) override { records_ = records; }
  int64_t arena_bytes() const override { return static_cast<int64_t>(arena_->capacity()); }

 private:
  // The tokens of the step before go where this one reads them. A broken row's -1 becomes token 0: its
  // sequence ends as soon as it is collected.
  static void take_tokens_of(const std::vector<SampledToken>& before, StepInputs& inputs) {
    for (size_t t = 0; t < inputs.token_ids.size(); ++t) {
      const int32_t row = inputs.token_source[t];
      if (row >= 0) inputs.token_ids[t] = std::max(before.at(static_cast<size_t>(row)).token, 0);
    }
  }

  // Penalties count the token before, which the caller could not know.
  std::span<const SamplingRow> with_late_tokens(std::span<const SamplingRow> rows, const StepInputs& inputs) {
    rows_.assign(rows.begin(), rows.end());
    for (size_t r = 0; r < rows_.size(); ++r) {
      const auto token = static_cast<size_t>(inputs.logit_rows[r]);
      if (inputs.token_source[token] >= 0) rows_[r].late_token = inputs.token_ids[token];
    }
    return rows_;
  }

  void provide_arena(size_t bytes) {
    context_.reset();
    arena_.reset();  // first, so that both are never there together
    arena_ = std::make_unique<Arena>(bytes);
    context_.emplace(pool_, *arena_, caps_);
  }

  // A kernel wanted more scratch for the last step's shape than for any that was measured: it got memory of
  // its own then, the next one shall not need to.
  void grow_arena() {
    if (arena_->peak() <= arena_->capacity()) return;
    log_warning("a step took ", arena_->peak(), " bytes of activations, ", arena_->capacity(),
                " were planned: the arena grows");
    provide_arena(arena_->peak());
  }

  // The logits live in the arena: the caller holds the scope.
  Tensor forward(const StepInputs& inputs) {
    context_->record_to(records_);
    ForwardBatch batch = inputs.on_host();
    if (!inputs.images.rows.empty()) batch.input_rows = images_.value().rows_of(inputs.images, *context_);
    if (!hidden_.empty()) {
      hidden_out_.assign(static_cast<size_t>(model_.config().layers) + 1, Tensor());
      hidden_out_.back() = Tensor::of(hidden_.data(), {inputs.tokens(), model_.config().hidden});
      batch.hidden_out = &hidden_out_;
    }
    return model_.forward(batch, cache_, *context_);
  }

  const Model& model_;
  int32_t vocab_limit_;
  ThreadPool& pool_;
  Caps caps_;
  KvCache cache_;
  std::vector<Storage> cache_memory_;
  std::unique_ptr<Arena> arena_;
  std::optional<Context> context_;
  std::optional<ImageRows> images_;
  std::vector<OpRecord>* records_ = nullptr;
  std::vector<SampledToken> sampled_[kSlots];
  int last_slot_ = 0;
  std::vector<SamplingRow> rows_;
  std::vector<float> hidden_;       // (T, C) or empty
  std::vector<Tensor> hidden_out_;  // see ForwardBatch; only the last one has memory
};

}  // namespace

std::unique_ptr<StepRunner> make_cpu_runner(const Model& model, const MemoryPlan& plan, int32_t vocab_limit,
                                            ThreadPool& pool) {
  return std::make_unique<CpuRunner>(model, plan, vocab_limit, pool);
}

}  // namespace llamita
