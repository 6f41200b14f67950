// Runs a model step by step in tests: owns the cache, the block tables and the arrays of each step's batch.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "models/model.h"
#include "ops/attention/plan.h"
#include "quant/kv_side.h"

namespace llamita::test {

class ModelSteps {
 public:
  struct Chunk {
    int sequence;
    std::vector<int32_t> ids;
  };

  explicit ModelSteps(const Model& model, DType kv_dtype = DType::f32, int threads = 1,
                      cpu::Isa isa = cpu::detect_isa())
      : model_(model), pool_(threads), caps_{DeviceKind::cpu, isa, pool_.threads()} {
    const ModelConfig& config = model.config();
    cache_.format.dtype = kv_dtype;
    for (int i = 0; i < config.layers; ++i) {
      KvCache::Layer layer;
      for (Tensor* side : {&layer.k, &layer.v}) {
        const auto side_over = [&](void* data) {
          return kv_side(data, cache_.format, kPages, config.kv_heads, config.head_dim);
        };
        const auto bytes = static_cast<size_t>(kv_side_bytes(side_over(nullptr)));
        storage_.push_back(Storage::allocate(bytes));
        std::fill_n(static_cast<uint8_t*>(storage_.back().data()), bytes,
                    uint8_t{0xff});  // NaN, or its scale
        *side = side_over(storage_.back().data());
      }
      cache_.layers.push_back(layer);
    }
  }

  // One forward pass over these chunks, each appended to its sequence. Logits of every token, in order: (T,
  // V).
  // Negative ids take rows of `input_rows` (n, C).
  std::vector<float> run(const std::vector<Chunk>& chunks, std::vector<std::vector<float>>* hidden = nullptr,
                         const Tensor& input_rows = {}) {
    std::vector<int32_t> ids, positions, q_start{0}, kv_len, rows;
    std::vector<int64_t> slots;
    size_t most_pages = 1;
    for (const Chunk& chunk : chunks) {
      Sequence& sequence = sequences_[chunk.sequence];
      for (const int32_t id : chunk.ids) {
        if (sequence.length % kPageTokens == 0) sequence.pages.push_back(next_page());
        slots.push_back(int64_t{sequence.pages.back()} * kPageTokens + sequence.length % kPageTokens);
        positions.push_back(sequence.length++);
        rows.push_back(static_cast<int32_t>(ids.size()));
        ids.push_back(id);
      }
      q_start.push_back(static_cast<int32_t>(ids.size()));
      kv_len.push_back(sequence.length);
      most_pages = std::max(most_pages, sequence.pages.size());
    }
    std::vector<int32_t> table(chunks.size() * most_pages, -1);
    for (size_t b = 0; b < chunks.size(); ++b) {
      const auto& pages = sequences_[chunks[b].sequence].pages;
      std::copy(pages.begin(), pages.end(), table.begin() + static_cast<int64_t>(b * most_pages));
    }
    const AttentionPlan plan = plan_attention(q_start, kv_len);
    const auto tokens = static_cast<int64_t>(ids.size());
    const auto count = static_cast<int64_t>(chunks.size());
    ForwardBatch batch{.token_ids = Tensor::of(ids.data(), {tokens}),
                       .positions = Tensor::of(positions.data(), {1, tokens}),
                       .input_rows = input_rows,
                       .kv_slot = Tensor::of(slots.data(), {tokens}),
                       .q_start = Tensor::of(q_start.data(), {count + 1}),
                       .kv_len = Tensor::of(kv_len.data(), {count}),
                       .block_table = Tensor::of(table.data(), {count, static_cast<int64_t>(most_pages)}),
                       .logit_rows = Tensor::of(rows.data(), {tokens}),
                       .plan = &plan};
    std::vector<Tensor> hidden_out;
    if (hidden != nullptr) {
      const auto width = static_cast<size_t>(tokens * model_.config().hidden);
      hidden->assign(static_cast<size_t>(model_.config().layers + 1), std::vector<float>(width));
      for (auto& layer : *hidden)
        hidden_out.push_back(Tensor::of(layer.data(), {tokens, model_.config().hidden}));
      batch.hidden_out = &hidden_out;
    }
    Arena plan_arena;
    Context dry(plan_arena, caps_);
    ops.clear();
    dry.record_to(&ops);
    model_.forward(batch, cache_, dry);
    planned_bytes = plan_arena.peak();
    Arena arena(planned_bytes);
    Context context(pool_, arena, caps_);
    const Tensor logits = model_.forward(batch, cache_, context);
    used_bytes = arena.peak();
    return {logits.ptr<float>(), logits.ptr<float>() + logits.elems()};
  }

  size_t planned_bytes = 0;   // arena of the last step, as the dry run said
  size_t used_bytes = 0;      // and as it was
  std::vector<OpRecord> ops;  // of the last step, as the dry run recorded them

 private:
  static constexpr int kPages = 16;

  struct Sequence {
    int length = 0;
    std::vector<int32_t> pages;
  };

  // Pages in an order that no arithmetic on sequence or position gives by chance.
  int32_t next_page() {
    LLAMITA_CHECK(pages_taken_ < kPages, "a test's cache holds ", kPages, " pages");
    return static_cast<int32_t>((7 * pages_taken_++ + 3) % kPages);
  }

  const Model& model_;
  ThreadPool pool_;
  Caps caps_;
  KvCache cache_;
  std::vector<Storage> storage_;
  std::map<int, Sequence> sequences_;
  int pages_taken_ = 0;
};

}  // namespace llamita::test
