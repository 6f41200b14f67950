#include "engine/step_inputs.h"

#include <algorithm>

#include "base/check.h"

namespace llamita {

void StepInputs::read(const sched::Batch& batch, LogitsOf logits_of,
                      std::span<const sched::SequenceId> rows_before) {
  token_ids.assign(batch.tokens.begin(), batch.tokens.end());
  for (int32_t& id : token_ids) id = id >= sched::kFirstImageToken ? kImageRow : id;
  images = {};
  for (auto* list : {&positions, &q_start, &kv_len, &block_table, &logit_rows}) list->clear();
  kv_slot.clear();
  size_t most_blocks = 1;
  for (const auto& chunk : batch.chunks) most_blocks = std::max(most_blocks, chunk.blocks.size());
  q_start.push_back(0);
  for (const sched::Batch::Chunk& chunk : batch.chunks) {
    for (int position = chunk.begin; position < chunk.end; ++position) {
      const int64_t page = chunk.blocks[static_cast<size_t>(position / kPageTokens)];
      positions.push_back(position);
      kv_slot.push_back(page * kPageTokens + position % kPageTokens);
    }
    const auto end = static_cast<int32_t>(positions.size());
    q_start.push_back(end);
    kv_len.push_back(chunk.end);
    block_table.insert(block_table.end(), chunk.blocks.begin(), chunk.blocks.end());
    block_table.resize(kv_len.size() * most_blocks, 0);
    if (logits_of == LogitsOf::sampled_chunks && chunk.sample) logit_rows.push_back(end - 1);
  }
  const auto count = static_cast<int32_t>(positions.size());
  LLAMITA_CHECK(count > 0 && batch.tokens.size() == positions.size(), batch.tokens.size(), " tokens for ",
                count, " positions");
  for (int32_t token = 0; logits_of == LogitsOf::all_tokens && token < count; ++token) {
    logit_rows.push_back(token);
  }
  // A step of prompt chunks alone samples nothing; one row of logits is cheaper than an empty case in each
  // op.
  if (logit_rows.empty()) logit_rows.push_back(count - 1);
  read_sources(batch, rows_before);
  attention = plan_attention(q_start, kv_len);
}

void StepInputs::read_sources(const sched::Batch& batch, std::span<const sched::SequenceId> rows_before) {
  token_source.assign(token_ids.size(), -1);
  size_t end = 0, next = 0;  // mostly the sequences are those of the step before, in the same order
  for (const sched::Batch::Chunk& chunk : batch.chunks) {
    end += static_cast<size_t>(chunk.end - chunk.begin);
    if (batch.tokens[end - 1] != sched::kTokenOfStepBefore) continue;  // only a sequence's last can be
    const auto from = rows_before.begin() + static_cast<std::ptrdiff_t>(next);
    auto found = std::find(from, rows_before.end(), chunk.sequence);
    if (found == rows_before.end()) found = std::find(rows_before.begin(), from, chunk.sequence);
    const auto row = static_cast<size_t>(found - rows_before.begin());
    LLAMITA_CHECK(row < rows_before.size() && rows_before[row] == chunk.sequence, "sequence ", chunk.sequence,
                  " continues what no step before it chose");
    token_source[end - 1] = static_cast<int32_t>(row);
    token_ids[end - 1] = 0;
    next = row + 1;
  }
}

bool StepInputs::has_sources() const {
  return std::any_of(token_source.begin(), token_source.end(), [](int32_t row) { return row >= 0; });
}

void StepInputs::pad_decode(int wanted, int wanted_blocks, int32_t scratch_page) {
  const int before = sequences(), blocks = max_blocks();
  LLAMITA_CHECK(is_decode() && wanted >= before, "a step of ", tokens(), " tokens in ", before,
                " sequences padded to ", wanted);
  std::vector<int32_t> table(static_cast<size_t>(wanted) * static_cast<size_t>(wanted_blocks), scratch_page);
  for (int b = 0; b < before; ++b) {
    const auto row = block_table.begin() + b * blocks;
    // What is beyond the wanted blocks is not read by this step: its keys end before.
    std::copy(row, row + std::min(blocks, wanted_blocks), table.begin() + b * wanted_blocks);
    LLAMITA_CHECK(kv_len[static_cast<size_t>(b)] <= wanted_blocks * kPageTokens, "a sequence of ",
                  kv_len[static_cast<size_t>(b)], " keys in ", wanted_blocks, " blocks");
  }
  block_table = std::move(table);
  for (int b = before; b < wanted; ++b) {
    token_ids.push_back(0);
    token_source.push_back(-1);
    positions.push_back(0);
    kv_slot.push_back(int64_t{scratch_page} * kPageTokens);
    kv_len.push_back(1);
    logit_rows.push_back(b);
    q_start.push_back(b + 1);
  }
  const std::vector<int32_t> full(static_cast<size_t>(wanted), wanted_blocks * kPageTokens);
  attention = plan_attention(q_start, full);
}

ForwardBatch StepInputs::on_host() const {
  const int64_t T = tokens(), B = sequences();
  ForwardBatch batch;
  batch.token_ids = Tensor::of(token_ids.data(), {T});
  batch.positions = Tensor::of(positions.data(), {1, T});
  batch.kv_slot = Tensor::of(kv_slot.data(), {T});
  batch.q_start = Tensor::of(q_start.data(), {B + 1});
  batch.kv_len = Tensor::of(kv_len.data(), {B});
  batch.block_table = Tensor::of(block_table.data(), {B, max_blocks()});
  batch.logit_rows = Tensor::of(logit_rows.data(), {rows()});
  batch.plan = &attention;
  return batch;
}

}  // namespace llamita
