#include "kv/prefix_cache.h"

#include <algorithm>

#include "base/cat.h"
#include "base/check.h"

namespace llamita::kv {

int common_prefix(std::span<const int32_t> a, std::span<const int32_t> b) {
  const size_t length = std::min(a.size(), b.size());
  const auto differs = std::mismatch(a.begin(), a.begin() + static_cast<ptrdiff_t>(length), b.begin());
  return static_cast<int>(differs.first - a.begin());
}

PrefixCache::Place PrefixCache::start(std::string_view salt) {
  const auto found = start_of_.find(salt);
  if (found != start_of_.end()) return found->second;
  const Place place = next_start_;
  next_start_ = next_start_ == INT32_MIN ? -1 : next_start_ - 1;
  LLAMITA_CHECK(starts_.count(place) == 0, "a start came round while another one has its place");
  starts_[place].salt = salt;
  start_of_.emplace(salt, place);
  return place;
}

// Each token goes through a round of the 64-bit finaliser of MurmurHash3.
uint64_t PrefixCache::hash_of(Place parent, std::span<const int32_t> tokens) const {
  uint64_t hash = options_.hash_seed ^ static_cast<uint32_t>(parent);
  for (const int32_t token : tokens) {
    hash = (hash + static_cast<uint32_t>(token) + 1) * 0xFF51AFD7ED558CCDu;
    hash = (hash ^ hash >> 33) * 0xC4CEB9FE1A85EC53u;
    hash ^= hash >> 33;
  }
  return options_.hash_bits >= 64 ? hash : hash & ((uint64_t{1} << options_.hash_bits) - 1);
}

std::optional<BlockId> PrefixCache::child(Place parent, std::span<const int32_t> tokens) const {
  const auto [first, last] = by_hash_.equal_range(hash_of(parent, tokens));
  for (auto entry = first; entry != last; ++entry) {
    const Node& node = nodes_.at(entry->second);
    if (node.parent != parent) continue;
    if (std::equal(node.tokens.begin(), node.tokens.end(), tokens.begin(), tokens.end()))
      return entry->second;
  }
  return std::nullopt;
}

const PrefixCache::Behind& PrefixCache::behind(Place place) const {
  return place < 0 ? starts_.at(place).behind : nodes_.at(place).behind;
}
PrefixCache::Behind& PrefixCache::behind(Place place) {
  return place < 0 ? starts_.at(place).behind : nodes_.at(place).behind;
}

PrefixCache::Node& PrefixCache::add(Place parent, std::span<const int32_t> tokens, BlockId block) {
  pool_.keep(block);
  if (parent >= 0) leaves_.erase({nodes_.at(parent).use, parent});
  Node& node = nodes_[block];
  node.parent = parent;
  node.tokens.assign(tokens.begin(), tokens.end());
  node.use = ++clock_;
  leaves_.emplace(node.use, block);
  return node;
}

std::optional<PrefixCache::Place> PrefixCache::keep(Place parent, std::span<const int32_t> tokens,
                                                    BlockId block) {
  LLAMITA_CHECK(static_cast<int>(tokens.size()) == pool_.block_tokens(), "a full block has ",
                pool_.block_tokens(), " tokens, not ", tokens.size());
  if (child(parent, tokens)) return std::nullopt;
  Node& node = add(parent, tokens, block);
  node.hash = hash_of(parent, tokens);
  by_hash_.emplace(node.hash, block);
  ++behind(parent).children;
  return block;
}

void PrefixCache::keep_tail(Place parent, std::span<const int32_t> tokens, BlockId block) {
  LLAMITA_CHECK(!tokens.empty() && static_cast<int>(tokens.size()) < pool_.block_tokens(), "a tail of ",
                tokens.size(), " tokens");
  add(parent, tokens, block).tail = true;
  // What begins the new tail is found in it; beyond a few, the oldest goes.
  std::vector<BlockId> useless;
  const std::vector<BlockId>& tails = behind(parent).tails;
  for (const BlockId tail : tails) {
    const std::vector<int32_t>& other = nodes_.at(tail).tokens;
    if (common_prefix(other, tokens) == static_cast<int>(other.size())) useless.push_back(tail);
  }
  if (useless.empty() && tails.size() == kTails) useless.push_back(tails.front());
  behind(parent).tails.push_back(block);
  for (const BlockId tail : useless) remove(tail);
}

PrefixCache::Match PrefixCache::find(std::span<const int32_t> tokens, std::string_view salt) const {
  Match match;
  const auto begin = start_of_.find(salt);
  if (begin == start_of_.end()) return match;
  match.place = begin->second;
  const auto block_tokens = static_cast<size_t>(pool_.block_tokens());
  while (tokens.size() >= block_tokens) {
    const std::optional<BlockId> next = child(match.place, tokens.first(block_tokens));
    if (!next) break;
    match.blocks.push_back(*next);
    match.place = *next;
    tokens = tokens.subspan(block_tokens);
  }
  match.tokens = static_cast<int>(match.blocks.size() * block_tokens);
  int longest = 0;
  for (const BlockId tail : behind(match.place).tails) {
    const int same = common_prefix(nodes_.at(tail).tokens, tokens);
    if (same <= longest) continue;
    longest = same;
    match.tail = tail;
  }
  match.tokens += longest;
  return match;
}

void PrefixCache::adopt(const Match& match, BlockTable& table) {
  LLAMITA_CHECK(table.blocks().empty(), "a table with ", table.blocks().size(), " blocks adopts a prefix");
  for (const BlockId block : match.blocks) {
    table.share(block);
    touch(block);
  }
  if (!match.tail) return;
  table.share(*match.tail);
  remove(*match.tail);
}

void PrefixCache::touch(BlockId block) {
  Node& node = nodes_.at(block);
  const bool leaf = leaves_.erase({node.use, block}) > 0;
  node.use = ++clock_;
  if (leaf) leaves_.emplace(node.use, block);
}

// Forgets a block with nothing behind it.
void PrefixCache::remove(BlockId block) {
  const Node& node = nodes_.at(block);
  const Place parent = node.parent;
  Behind& siblings = behind(parent);
  if (node.tail) {
    std::erase(siblings.tails, block);
  } else {
    --siblings.children;
    const auto [first, last] = by_hash_.equal_range(node.hash);
    by_hash_.erase(std::find_if(first, last, [&](const auto& entry) { return entry.second == block; }));
  }
  leaves_.erase({node.use, block});
  nodes_.erase(block);
  pool_.drop(block);
  if (!siblings.none()) return;
  if (parent >= 0) {
    leaves_.emplace(nodes_.at(parent).use, parent);
  } else {
    start_of_.erase(starts_.at(parent).salt);
    starts_.erase(parent);
  }
}

bool PrefixCache::evict_oldest() {
  if (pool_.idle_blocks() == 0) return false;
  for (;;) {
    LLAMITA_CHECK(!leaves_.empty(), "blocks are idle and none can go");
    const BlockId oldest = leaves_.begin()->second;
    if (pool_.references(oldest) == 0) {
      remove(oldest);
      return true;
    }
    touch(oldest);  // in use: as good as used now
  }
}

std::string PrefixCache::check_integrity() const {
  std::map<Place, int> children, tails;
  for (const auto& [block, node] : nodes_) {
    if (!pool_.kept(block)) return cat("block ", block, " is in the prefix cache and not kept");
    const bool known = node.parent < 0 ? starts_.count(node.parent) > 0 : nodes_.count(node.parent) > 0;
    if (!known) return cat("block ", block, " stands behind block ", node.parent, ", which is gone");
    ++(node.tail ? tails : children)[node.parent];
    if (node.tail && pool_.references(block) > 0) return cat("tail ", block, " is in use");
    if (node.parent >= 0 && pool_.references(block) > pool_.references(node.parent)) {
      return cat("block ", block, " is in use without block ", node.parent, " before it");
    }
    if (leaves_.count({node.use, block}) != (node.behind.none() ? 1u : 0u)) {
      return cat("block ", block, " is wrongly taken for the end of a prefix or not");
    }
  }
  const auto wrong = [&](Place place, const Behind& behind) {
    return behind.children != children[place] || static_cast<int>(behind.tails.size()) != tails[place];
  };
  for (const auto& [block, node] : nodes_) {
    if (wrong(block, node.behind)) return cat("block ", block, " miscounts the blocks behind it");
  }
  for (const auto& [place, start] : starts_) {
    if (wrong(place, start.behind)) return cat("the start of salt ", start.salt, " miscounts its blocks");
  }
  int kept = 0;
  for (BlockId block = 0; block < pool_.blocks(); ++block) kept += pool_.kept(block) ? 1 : 0;
  if (kept != static_cast<int>(nodes_.size()))
    return cat(kept, " blocks are kept, ", nodes_.size(), " known");
  return "";
}

}  // namespace llamita::kv
