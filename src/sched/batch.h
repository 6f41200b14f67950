// Batch: what the scheduler asks of one step, in tokens and block ids. Self-contained: it stays valid
// whatever happens to the scheduler while the step runs.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "kv/block_pool.h"

namespace llamita::sched {

using SequenceId = uint64_t;  // never used twice by one scheduler

// In Batch::tokens: what the step before this one chooses for the sequence (Limits::steps_under_way). No
// caller's token: other negative ones stand for rows of embeddings.
inline constexpr int32_t kTokenOfStepBefore = std::numeric_limits<int32_t>::min();

// From here on a token is no id of the vocabulary: it stands in an image's place, and its number is the
// image's, so that prefixes with different images differ. The engine puts the image's rows there.
inline constexpr int32_t kFirstImageToken = 1 << 30;

struct Batch {
  struct Chunk {
    SequenceId sequence = 0;
    int begin = 0, end = 0;  // positions whose keys and values this step computes
    bool sample = false;     // the chunk ends the sequence as known so far: its last logits choose a token
    std::vector<kv::BlockId> blocks;  // hold at least `end` tokens
  };
  std::vector<Chunk> chunks;
  std::vector<int32_t> tokens;  // of all chunks, one after another

  bool empty() const { return chunks.empty(); }
};

}  // namespace llamita::sched
