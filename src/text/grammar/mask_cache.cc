#include "text/grammar/mask_cache.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace llamita::grammar {

namespace {

constexpr int kMaxRounds = 4;   // frames of repeats in a window
constexpr int32_t kWhole = -1;  // begins the keys of whole sets; the others begin with a state

// Counts from which no token can reach `min` or `max` look alike.
int32_t telling(int32_t count, const Grammar::Call& call, int32_t longest) {
  if (int64_t{count} + longest < call.min) return 0;
  if (count >= call.min && int64_t{count} + longest < call.max) return call.min;
  return count;
}

}  // namespace

size_t MaskCache::KeyHash::operator()(const Key& key) const {
  uint64_t hash = key.size();
  for (const int32_t part : key)
    hash = (hash ^ static_cast<uint32_t>(part)) * 0x9E3779B97F4A7C15u ^ hash >> 31;
  return hash;
}

MaskCache::MaskCache(std::shared_ptr<const Grammar> grammar, std::shared_ptr<const TokenTrie> trie,
                     size_t memory)
    : grammar_(std::move(grammar)), trie_(std::move(trie)), capacity_(memory) {
  LLAMITA_CHECK(grammar_ && trie_);
}

// The key: state, levels left (cut down to what matters), then call and count of each round of a repeat.
MaskCache::Window MaskCache::window(const StackSets& stacks, StackSets::Config config) const {
  Window out = {{config.state, 0}, config.parent};
  for (int i = 0; i < kMaxRounds && out.below != StackSets::kBottom; ++i) {
    const StackSets::Frame& frame = stacks.frame(out.below);
    if (frame.state >= 0) break;
    out.key.push_back(~frame.state);
    // One token may end a round of no bytes left and begin `longest` more.
    out.key.push_back(telling(frame.count, grammar_->call(~frame.state), trie_->longest() + 1));
    out.below = frame.parent;
  }
  const int32_t left = kMaxLevels - stacks.frame(out.below).level;
  out.key[1] = std::min(left, trie_->longest() + grammar_->max_need() + 1);
  return out;
}

// The key: each stack as its state, how many frames are below it, and those from the top.
MaskCache::Key MaskCache::whole(const StackSets& stacks, int32_t set) {
  Key key = {kWhole};
  for (const StackSets::Config& config : stacks.configs(set)) {
    key.push_back(config.state);
    const size_t count = key.size();
    key.push_back(0);
    for (int32_t at = config.parent; at != StackSets::kBottom; at = stacks.frame(at).parent) {
      key.push_back(stacks.frame(at).state);
      key.push_back(stacks.frame(at).count);
      ++key[count];
    }
  }
  return key;
}

std::shared_ptr<const MaskCache::Entry> MaskCache::find(const Key& key, int64_t work) {
  {
    const std::lock_guard lock(mutex_);
    const auto place = entries_.find(key);
    if (place != entries_.end()) return place->second;
  }
  // Outside of the lock: two threads may do the same work, neither waits for it.
  auto entry = compute(key, work);
  if (entry == nullptr) return nullptr;
  const std::lock_guard lock(mutex_);
  const size_t size = (entry->allowed.size() + entry->exits.size() + key.size()) * sizeof(int32_t) + 128;
  if (used_ + size > capacity_) {
    entries_.clear();
    used_ = 0;
  }
  if (entries_.try_emplace(key, entry).second) used_ += size;
  return entry;
}

std::shared_ptr<const MaskCache::Entry> MaskCache::compute(const Key& key, int64_t work) const {
  auto entry = std::make_shared<Entry>();
  entry->allowed.assign(trie_->mask_words(), 0);
  const bool whole = key[0] == kWhole;
  StackSets stacks(*grammar_, whole ? 0 : kMaxLevels - key[1]);
  stacks.set_work(work);
  // Without what calls and returns lead to: those are stacks of their own in the Matcher's set.
  std::vector<StackSets::Config> configs;
  if (whole) {
    for (size_t at = 1; at < key.size();) {
      const int32_t state = key[at];
      const size_t first = at + 2;
      at = first + 2 * size_t(key[at + 1]);
      int32_t parent = StackSets::kBottom;
      for (size_t i = at; i > first; i -= 2) parent = stacks.push(key[i - 2], key[i - 1], parent);
      configs.push_back({state, parent});
    }
  } else {
    int32_t parent = StackSets::kBottom;
    for (size_t i = key.size(); i > 2; i -= 2) parent = stacks.push(~key[i - 2], key[i - 1], parent);
    configs.push_back({key[0], parent});
  }
  stacks.spend(static_cast<int64_t>(key.size()));
  const int32_t set = stacks.only(configs);
  walk_tokens(*trie_, stacks, set, 0, trie_->size(), 0, entry->allowed.data(),
              whole ? nullptr : &entry->exits);
  if (stacks.spent()) return nullptr;
  entry->work = work - stacks.work();
  return entry;
}

void walk_tokens(const TokenTrie& trie, StackSets& stacks, int32_t set, int32_t begin, int32_t end,
                 int32_t depth, uint32_t* allowed, std::vector<int32_t>* exits) {
  std::vector<int32_t> path(size_t(trie.longest()) + 1);  // the set after each byte on the way down
  path[0] = set;
  for (int32_t i = begin; i < end;) {
    stacks.spend(1);
    if (stacks.spent()) return;
    const TokenTrie::Node& node = trie.node(i);
    const auto at = size_t(node.depth - depth);
    const int32_t next = stacks.advance(path[at], node.byte);
    if (next == StackSets::kDead) {
      i = node.next;
      continue;
    }
    for (const int32_t token : trie.tokens(i)) allowed[token / 32] |= uint32_t{1} << (token % 32);
    if (exits != nullptr && node.next > i + 1 && stacks.complete(next)) exits->push_back(i);
    path[at + 1] = next;
    ++i;
  }
}

}  // namespace llamita::grammar
