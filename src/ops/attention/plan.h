// AttentionPlan: how one step's attention is cut into work items; a pure function of (q_start, kv_len).
// Prefill chunks and decode tokens share one plan.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace llamita {

struct AttentionPlan {
  // Enough rows to share the reading of a page, few enough that a prompt of 512 tokens gives 32 items.
  static constexpr int32_t kRowsPerItem = 16;

  struct Item {
    int32_t sequence;
    int32_t q_begin, q_end;  // rows of q, absolute in the step's tokens; at most kRowsPerItem
    int32_t first_position;  // position of row q_begin in its sequence; the following rows follow
  };
  std::vector<Item> items;  // longest first, so that the last ones to start are short
  int32_t max_kv_len = 0;
  int32_t max_q_len = 0;  // rows of the longest chunk
};

// q_start (B+1): first token of each sequence in the step; kv_len (B): keys of each sequence, this step's
// included. Checks that they fit together.
AttentionPlan plan_attention(std::span<const int32_t> q_start, std::span<const int32_t> kv_len);

// Bounds alone, without items: for a GPU, where lengths lie in device memory and launches are captured once
// for all steps with at most `max_q_len` rows a sequence and `max_kv_len` keys. CPU variants need items.
AttentionPlan bound_attention(int32_t max_q_len, int32_t max_kv_len);

}  // namespace llamita
