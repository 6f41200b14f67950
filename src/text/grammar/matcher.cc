#include "text/grammar/matcher.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/check.h"

namespace llamita::grammar {

namespace {

constexpr size_t kMaxForced = 256;
// Sets and stacks of one reply; a long one with counted repeats makes many.
constexpr size_t kMaxMemory = size_t{16} << 20;
// A walk over a vocabulary of 49,152 tokens takes about half a millisecond. One mask may take sixteen:
// kFewStacks new states, each of which allows all that there is. Two a token keep up with counted repeats,
// where each token leads to states that are new.
constexpr int64_t kMostWalks = 16, kWalksPerToken = 2;
constexpr size_t kFewStacks = 8;         // their masks are kept one by one, those of more as a whole
constexpr int64_t kWalkWork = 16 << 10;  // beside its nodes, for the steps that are made on the way
constexpr int kMostPaid = 4096;

}  // namespace

Matcher::Matcher(std::shared_ptr<MaskCache> masks) : masks_(std::move(masks)), stacks_(masks_->grammar()) {
  const Grammar& grammar = masks_->grammar();
  stacks_.set_work(walks(kMostWalks));
  history_.push_back(stacks_.enter(grammar.start(grammar.root()), StackSets::kBottom));
}

int64_t Matcher::walks(int64_t n) const { return n * (masks_->trie().size() + kWalkWork); }

int32_t Matcher::after(int32_t set, std::string_view bytes) {
  for (const char byte : bytes) {
    set = stacks_.advance(set, static_cast<uint8_t>(byte));
    if (set == StackSets::kDead) break;
  }
  return set;
}

void Matcher::append(int32_t set) {
  history_.push_back(set);
  if (history_.size() > 2 * kHistory) {
    history_.erase(history_.begin(), history_.end() - static_cast<std::ptrdiff_t>(kHistory) - 1);
  }
  if (stacks_.memory() > kMaxMemory) {
    history_.erase(history_.begin(),
                   history_.end() - static_cast<std::ptrdiff_t>(std::min(history_.size(), kHistory + 1)));
    stacks_.compact(history_);
    kept_set_ = -1;
  }
}

bool Matcher::accept(int32_t token) {
  if (finished_ || token < 0 || token >= masks_->trie().vocab_size()) return false;
  if (masks_->trie().is_stop(token)) {
    if (!is_complete()) return false;
    finished_ = true;
    append(set());
    return true;
  }
  const std::string& bytes = masks_->trie().bytes(token);
  return !bytes.empty() && accept_bytes(bytes);
}

bool Matcher::accept_bytes(std::string_view bytes) {
  if (finished_ || is_too_costly()) return false;
  stacks_.set_work(std::min(stacks_.work() + walks(kWalksPerToken), walks(kMostWalks)));
  const int32_t next = after(set(), bytes);
  if (next == StackSets::kDead) return false;
  append(next);
  return true;
}

bool Matcher::rollback(size_t n) {
  if (n > steps()) return false;
  if (n > 0) finished_ = false;
  history_.resize(history_.size() - n);
  return true;
}

std::string Matcher::forced_bytes() {
  std::string out;
  for (int32_t at = set(); !finished_ && out.size() < kMaxForced;) {
    const StackSets::Bytes& next = stacks_.bytes(at);
    if (stacks_.complete(at) || next.count() != 1) break;
    size_t byte = 0;
    while (!next[byte]) ++byte;
    out.push_back(static_cast<char>(byte));
    at = stacks_.advance(at, static_cast<uint8_t>(byte));
  }
  return out;
}

size_t Matcher::fill_mask(std::span<uint32_t> mask) {
  LLAMITA_CHECK(mask.size() >= mask_words(), mask.size(), " words for a mask of ", mask_words());
  const auto used = mask.first(mask_words());
  std::fill(mask.begin(), mask.end(), 0);
  if (finished_ || is_too_costly()) return 0;
  if (kept_set_ != set()) {
    add_allowed(set(), used);
    if (is_too_costly()) {
      std::fill(used.begin(), used.end(), 0);
      return 0;
    }
    if (is_complete()) {
      for (const int32_t stop : masks_->trie().stops()) used[size_t(stop) / 32] |= uint32_t{1} << (stop % 32);
    }
    kept_mask_.assign(used.begin(), used.end());
    kept_set_ = set();
  } else {
    std::copy(kept_mask_.begin(), kept_mask_.end(), used.begin());
  }
  size_t allowed = 0;
  for (const uint32_t word : used) allowed += size_t(std::popcount(word));
  return allowed;
}

// Nothing when it is too costly. Paid once, also when others have it made: what they did is no luck of ours.
std::shared_ptr<const MaskCache::Entry> Matcher::entry(const MaskCache::Key& key) {
  if (++paid_count_ > kMostPaid) {
    paid_.clear();
    paid_count_ = 1;
  }
  const bool unpaid = paid_.insert(MaskCache::KeyHash()(key));
  stacks_.spend(static_cast<int64_t>(key.size() + mask_words() / 16));
  if (stacks_.spent()) return nullptr;
  auto found = masks_->find(key, unpaid ? stacks_.work() : walks(kMostWalks));
  stacks_.spend(found == nullptr ? walks(kMostWalks) + 1 : unpaid ? found->work : 0);
  return stacks_.spent() ? nullptr : found;
}

void Matcher::add_allowed(int32_t set, std::span<uint32_t> mask) {
  const TokenTrie& trie = masks_->trie();
  const auto view = stacks_.configs(set);
  const std::vector<StackSets::Config> configs(view.begin(), view.end());  // the walks below make new sets
  if (configs.size() > kFewStacks) {
    const auto all = entry(MaskCache::whole(stacks_, set));
    if (all != nullptr) std::copy(all->allowed.begin(), all->allowed.end(), mask.begin());
    return;
  }
  for (const StackSets::Config config : configs) {
    const MaskCache::Window window = masks_->window(stacks_, config);
    const auto inside = entry(window.key);
    if (inside == nullptr) return;
    for (size_t i = 0; i < mask.size(); ++i) mask[i] |= inside->allowed[i];
    if (window.below == StackSets::kBottom) continue;  // past the end of the text comes nothing
    const int32_t below = inside->exits.empty() ? StackSets::kDead : stacks_.leave(window.below);
    if (below == StackSets::kDead) continue;
    const StackSets::Bytes next = stacks_.bytes(below);
    for (const int32_t exit : inside->exits) {
      const TokenTrie::Node& node = trie.node(exit);
      for (int32_t child = exit + 1; child < node.next; child = trie.node(child).next) {
        if (!next[trie.node(child).byte]) continue;
        walk_tokens(trie, stacks_, below, child, trie.node(child).next, node.depth + 1, mask.data(), nullptr);
      }
    }
  }
}

}  // namespace llamita::grammar
