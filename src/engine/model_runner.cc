#include "engine/model_runner.h"

#include <algorithm>

#include "base/log.h"

namespace llamita {

Caps cpu_caps(const ThreadPool& pool) { return {DeviceKind::cpu, cpu::detect_isa(), pool.threads()}; }

ModelRunner::ModelRunner(const Model& model, const MemoryPlan& plan, int32_t vocab_limit, ThreadPool& pool)
    : model_(model), vocab_limit_(vocab_limit), pool_(pool), caps_(cpu_caps(pool)) {
  cache_ = shape_only_cache(model.config(), plan.shape);
  for (KvCache::Layer& layer : cache_.layers) {
    for (Tensor* tensor : {&layer.k, &layer.v}) {
      cache_memory_.push_back(Storage::allocate(static_cast<size_t>(tensor->bytes())));
      *tensor = Tensor(cache_memory_.back().data(), tensor->dtype(), tensor->shape());
    }
  }
  provide_arena(static_cast<size_t>(plan.arena_bytes));
}

void ModelRunner::provide_arena(size_t bytes) {
  context_.reset();
  arena_.reset();  // first, so that both are never there together
  arena_ = std::make_unique<Arena>(bytes);
  context_.emplace(pool_, *arena_, caps_);
}

void ModelRunner::prepare(const sched::Batch& batch, LogitsOf logits_of) {
  // A kernel wanted more scratch for the last step's shape than for any that was measured: it got memory of
  // its own then, the next one shall not need to.
  if (arena_->peak() > arena_->capacity()) {
    log_warning("a step took ", arena_->peak(), " bytes of activations, ", arena_->capacity(),
                " were planned: the arena grows");
    provide_arena(arena_->peak());
  }
  token_ids_.assign(batch.tokens.begin(), batch.tokens.end());
  for (auto* list : {&positions_, &q_start_, &kv_len_, &block_table_, &logit_rows_}) list->clear();
  kv_slot_.clear();
  size_t max_blocks = 1;
  for (const auto& chunk : batch.chunks) max_blocks = std::max(max_blocks, chunk.blocks.size());
  q_start_.push_back(0);
  for (const sched::Batch::Chunk& chunk : batch.chunks) {
    for (int position = chunk.begin; position < chunk.end; ++position) {
      const int64_t page = chunk.blocks[static_cast<size_t>(position / kPageTokens)];
      positions_.push_back(position);
      kv_slot_.push_back(page * kPageTokens + position % kPageTokens);
    }
    const auto tokens = static_cast<int32_t>(positions_.size());
    q_start_.push_back(tokens);
    kv_len_.push_back(chunk.end);
    block_table_.insert(block_table_.end(), chunk.blocks.begin(), chunk.blocks.end());
    block_table_.resize(kv_len_.size() * max_blocks, 0);
    if (logits_of == LogitsOf::sampled_chunks && chunk.sample) logit_rows_.push_back(tokens - 1);
  }
  const auto tokens = static_cast<int32_t>(positions_.size());
  LLAMITA_CHECK(tokens > 0 && batch.tokens.size() == positions_.size(), batch.tokens.size(), " tokens for ",
                tokens, " positions");
  for (int32_t token = 0; logits_of == LogitsOf::all_tokens && token < tokens; ++token) {
    logit_rows_.push_back(token);
  }
  // A step of prompt chunks alone samples nothing; one row of logits is cheaper than an empty case in each
  // op.
  if (logit_rows_.empty()) logit_rows_.push_back(tokens - 1);
  attention_ = plan_attention(q_start_, kv_len_);
}

ForwardBatch ModelRunner::forward_batch() {
  const auto tokens = static_cast<int64_t>(token_ids_.size());
  const auto sequences = static_cast<int64_t>(kv_len_.size());
  ForwardBatch batch;
  batch.token_ids = Tensor::of(token_ids_.data(), {tokens});
  batch.positions = Tensor::of(positions_.data(), {1, tokens});
  batch.kv_slot = Tensor::of(kv_slot_.data(), {tokens});
  batch.q_start = Tensor::of(q_start_.data(), {sequences + 1});
  batch.kv_len = Tensor::of(kv_len_.data(), {sequences});
  batch.block_table =
      Tensor::of(block_table_.data(), {sequences, static_cast<int64_t>(block_table_.size()) / sequences});
  batch.logit_rows = Tensor::of(logit_rows_.data(), {static_cast<int64_t>(logit_rows_.size())});
  batch.plan = &attention_;
  if (!hidden_.empty()) {
    hidden_out_.assign(static_cast<size_t>(model_.config().layers) + 1, Tensor());
    hidden_out_.back() = Tensor::of(hidden_.data(), {tokens, model_.config().hidden});
    batch.hidden_out = &hidden_out_;
  }
  return batch;
}

// Runs the model over what prepare() prepared. The logits live in the arena: the caller holds the scope.
Tensor ModelRunner::forward() {
  context_->record_to(records_);
  const Tensor logits = model_.forward(forward_batch(), cache_, *context_);
  LLAMITA_CHECK(logits.rank() == 2 && logits.dim(0) == static_cast<int64_t>(logit_rows_.size()) &&
                    logits.dim(1) >= vocab_limit_,
                "forward() gave ", logits.shape_text(), " for ", logit_rows_.size(), " rows");
  return logits;
}

std::span<const SampledToken> ModelRunner::step(const sched::Batch& batch, std::span<const SamplingRow> rows,
                                                bool keep_hidden) {
  prepare(batch, LogitsOf::sampled_chunks);
  hidden_.assign(keep_hidden ? token_ids_.size() * static_cast<size_t>(model_.config().hidden) : 0, 0.0f);
  const Arena::Scope scope(*arena_);
  const Tensor logits = forward();
  sampled_.assign(rows.size(), {});
  if (!rows.empty()) {
    LLAMITA_CHECK(rows.size() == logit_rows_.size(), rows.size(), " samplings of ", logit_rows_.size(),
                  " rows");
    sampling({.logits = logits, .vocab_limit = vocab_limit_, .rows = rows, .out = sampled_}, *context_);
  }
  return sampled_;
}

std::span<const float> ModelRunner::hidden(int token) const {
  const auto width = static_cast<size_t>(model_.config().hidden);
  const size_t begin = static_cast<size_t>(token) * width;
  LLAMITA_CHECK(begin + width <= hidden_.size(), "the state of token ", token, " was not kept");
  return std::span(hidden_).subspan(begin, width);
}

void ModelRunner::step_logits(const sched::Batch& batch, std::vector<float>& out) {
  prepare(batch, LogitsOf::all_tokens);
  hidden_.clear();
  const Arena::Scope scope(*arena_);
  const Tensor logits = forward();
  out.insert(out.end(), logits.ptr<float>(), logits.ptr<float>() + logits.elems());
}

}  // namespace llamita
