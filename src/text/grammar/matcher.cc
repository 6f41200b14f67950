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

}  // namespace

Matcher::Matcher(std::shared_ptr<MaskCache> masks) : masks_(std::move(masks)), stacks_(masks_->grammar()) {
  const Grammar& grammar = masks_->grammar();
  history_.push_back(stacks_.enter(grammar.start(grammar.root()), StackSets::kBottom));
}

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
  if (finished_) return false;
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
  if (finished_) return 0;
  if (kept_set_ != set()) {
    add_allowed(set(), used);
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

void Matcher::add_allowed(int32_t set, std::span<uint32_t> mask) {
  const TokenTrie& trie = masks_->trie();
  const auto view = stacks_.configs(set);
  const std::vector<StackSets::Config> configs(view.begin(), view.end());  // the walks below make new sets
  for (const StackSets::Config config : configs) {
    const MaskCache::Window window = masks_->window(stacks_, config);
    const auto entry = masks_->find(window);
    for (size_t i = 0; i < mask.size(); ++i) mask[i] |= entry->allowed[i];
    if (window.below == StackSets::kBottom) continue;  // past the end of the text comes nothing
    const int32_t below = entry->exits.empty() ? StackSets::kDead : stacks_.leave(window.below);
    if (below == StackSets::kDead) continue;
    const StackSets::Bytes next = stacks_.bytes(below);
    for (const int32_t exit : entry->exits) {
      const TokenTrie::Node& node = trie.node(exit);
      for (int32_t child = exit + 1; child < node.next; child = trie.node(child).next) {
        if (!next[trie.node(child).byte]) continue;
        walk_tokens(trie, stacks_, below, child, trie.node(child).next, node.depth + 1, mask.data(), nullptr);
      }
    }
  }
}

}  // namespace llamita::grammar
