// PrefixCache: blocks whose tokens are known, kept for sequences that begin with the same tokens: the next
// turn of a chat, or many requests with one system prompt, compute only what is new. Keys and values depend
// on nothing but the tokens up to their position, so reuse changes no bit.
//
// A chain of hashes finds them: a full block's identity is its own tokens and the block before it, up to a
// start that stands for a salt; what hashes alike is compared, so a chance or forged collision costs time and
// nothing else. The last block of an ended sequence may be partly full: it is a tail, which one new owner
// takes out and fills further.
//
// Whoever uses a kept full block uses the blocks before it too. So below an idle block all are idle, and
// there is something to evict as long as there are idle blocks.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kv/block_table.h"

namespace llamita::kv {

// How many tokens two sequences share from the start.
int common_prefix(std::span<const int32_t> a, std::span<const int32_t> b);

class PrefixCache {
 public:
  struct Options {
    uint64_t hash_seed = 0;  // unknown to outsiders, nobody can make blocks whose hashes collide
    int hash_bits = 64;      // fewer make collisions, for tests
  };
  using Place = int32_t;  // the end of a kept prefix: its last block, or (negative) a salt's start

  struct Match {
    Place place = 0;              // of the full blocks' end
    std::vector<BlockId> blocks;  // full ones
    std::optional<BlockId> tail;  // a partly full one behind them
    int tokens = 0;               // in all

    int count() const { return static_cast<int>(blocks.size()) + (tail ? 1 : 0); }
  };

  // Borrows the pool.
  PrefixCache(BlockPool& pool, const Options& options) : pool_(pool), options_(options) {}

  // The empty prefix of a salt. It goes with the last block behind it.
  Place start(std::string_view salt);
  // Keeps a block that is in use and full of `tokens`, behind `parent`, whose blocks the same owner uses.
  // Nothing when another block with these tokens is there: the owner's later blocks cannot be kept either.
  std::optional<Place> keep(Place parent, std::span<const int32_t> tokens, BlockId block);
  // Keeps a block that begins with `tokens` (less than it holds) and is used by its one owner.
  void keep_tail(Place parent, std::span<const int32_t> tokens, BlockId block);
  // Of a block's place.
  Place parent(Place place) const { return nodes_.at(place).parent; }

  // The longest kept prefix of `tokens`.
  Match find(std::span<const int32_t> tokens, std::string_view salt) const;
  // Fills the empty table with what find() found.
  void adopt(const Match& match, BlockTable& table);
  // Frees the idle block that was used longest ago and has none behind it. False when none is idle.
  bool evict_oldest();

  // What is wrong with the books, "" when nothing is.
  std::string check_integrity() const;

 private:
  static constexpr size_t kTails = 8;  // of one place

  struct Behind {
    int children = 0;            // full blocks
    std::vector<BlockId> tails;  // the latest last
    bool none() const { return children == 0 && tails.empty(); }
  };
  struct Node {
    Place parent = 0;
    std::vector<int32_t> tokens;
    uint64_t hash = 0;
    uint64_t use = 0;  // when it was used last
    bool tail = false;
    Behind behind;
  };
  struct Start {
    std::string salt;
    Behind behind;
  };

  uint64_t hash_of(Place parent, std::span<const int32_t> tokens) const;
  std::optional<BlockId> child(Place parent, std::span<const int32_t> tokens) const;
  const Behind& behind(Place place) const;
  Behind& behind(Place place);
  Node& add(Place parent, std::span<const int32_t> tokens, BlockId block);
  void touch(BlockId block);
  void remove(BlockId block);

  BlockPool& pool_;
  Options options_;
  std::unordered_map<BlockId, Node> nodes_;
  std::unordered_multimap<uint64_t, BlockId> by_hash_;  // full blocks
  std::set<std::pair<uint64_t, BlockId>> leaves_;       // (use, block) of those with nothing behind them
  std::map<Place, Start> starts_;
  std::map<std::string, Place, std::less<>> start_of_;  // by salt
  Place next_start_ = -1;
  uint64_t clock_ = 0;
};

}  // namespace llamita::kv
