// StepInputs: one step of the scheduler as the arrays that ForwardBatch wants, on the host. Every device's
// runner starts from it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/prepared_image.h"
#include "nn/forward_batch.h"
#include "sched/batch.h"

namespace llamita {

// Where an image stands in ForwardBatch::token_ids.
inline constexpr int32_t kImageRow = -2;

struct StepInputs {
  enum class LogitsOf { sampled_chunks, all_tokens };

  std::vector<int64_t> kv_slot;               // (T)
  std::vector<int32_t> token_ids, positions;  // (T)
  // (T): a row of the step before, whose token belongs here and may not be known yet (token_ids has 0), or -1
  std::vector<int32_t> token_source;
  std::vector<int32_t> q_start, kv_len, block_table, logit_rows;  // (B+1), (B), (B, max_blocks), (R)
  AttentionPlan attention;
  StepImages images;

  // Takes the place of what was here; the arrays keep their memory. A step that samples nothing gets the
  // logits of its last token all the same. `rows_before`: the sequences of the rows of the step before.
  void read(const sched::Batch& batch, LogitsOf logits_of,
            std::span<const sched::SequenceId> rows_before = {});
  // One token a sequence, whose logits all are wanted, made up to `sequences` sequences with such of one
  // token in `scratch_page`; rows of the block table have `max_blocks` entries, and the plan is that of
  // sequences which fill them: all that a kernel's launch may depend on is the same for any such step.
  void pad_decode(int sequences, int max_blocks, int32_t scratch_page);

  int tokens() const { return static_cast<int>(token_ids.size()); }
  int sequences() const { return static_cast<int>(kv_len.size()); }
  int rows() const { return static_cast<int>(logit_rows.size()); }
  int max_blocks() const { return static_cast<int>(block_table.size()) / sequences(); }
  bool has_sources() const;  // whether any token is one of the step before
  bool is_decode() const { return tokens() == sequences() && rows() == sequences() && images.rows.empty(); }

  // Over these arrays, which must stay as they are while it is used.
  ForwardBatch on_host() const;

 private:
  void read_sources(const sched::Batch& batch, std::span<const sched::SequenceId> rows_before);
};

}  // namespace llamita
