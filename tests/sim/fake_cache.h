// A key/value cache that is easy to check. Each slot holds a hash of its token, its position and the slot
// before it, read through the block table, and the next token is a hash of the last slot: a stale block, a
// wrong prefix, a lost or doubled token or a bad resume changes a reply, exactly.
#pragma once

#include <cstdint>
#include <vector>

#include "sched/batch.h"

namespace llamita::sim {

inline uint64_t slot_hash(int32_t token, int position, uint64_t before) {
  uint64_t x =
      (before ^ static_cast<uint64_t>(token) * 0x9E3779B97F4A7C15u) + static_cast<uint64_t>(position);
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

inline int32_t next_token(uint64_t hash) { return static_cast<int32_t>(hash % 50); }

// What a sequence that has the cache for itself replies.
inline std::vector<int32_t> solo_reply(const std::vector<int32_t>& prompt, size_t length) {
  std::vector<int32_t> tokens = prompt;
  uint64_t hash = 0;
  for (size_t i = 0; tokens.size() < prompt.size() + length; ++i) {
    hash = slot_hash(tokens[i], static_cast<int>(i), hash);
    if (i + 1 == tokens.size()) tokens.push_back(next_token(hash));
  }
  return {tokens.begin() + static_cast<ptrdiff_t>(prompt.size()), tokens.end()};
}

class FakeCache {
 public:
  FakeCache(int blocks, int block_tokens)
      : block_tokens_(block_tokens), slots_(static_cast<size_t>(blocks * block_tokens), 0) {}

  uint64_t& slot(const sched::Batch::Chunk& chunk, int position) {
    const kv::BlockId block = chunk.blocks.at(static_cast<size_t>(position / block_tokens_));
    return slots_.at(static_cast<size_t>(block * block_tokens_ + position % block_tokens_));
  }

  // Computes a chunk and returns its last hash. `tokens` are the chunk's.
  uint64_t run(const sched::Batch::Chunk& chunk, const int32_t* tokens) {
    uint64_t hash = 0;
    for (int position = chunk.begin; position < chunk.end; ++position) {
      const uint64_t before = position == 0 ? 0 : slot(chunk, position - 1);
      hash = slot(chunk, position) = slot_hash(tokens[position - chunk.begin], position, before);
    }
    return hash;
  }

 private:
  int block_tokens_;
  std::vector<uint64_t> slots_;
};

}  // namespace llamita::sim
