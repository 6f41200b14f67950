#include "kv/prefix_store.h"

#include <algorithm>

#include "base/check.h"

namespace llamita::kv {

int common_prefix(std::span<const int32_t> a, std::span<const int32_t> b) {
  const size_t length = std::min(a.size(), b.size());
  const auto differs = std::mismatch(a.begin(), a.begin() + static_cast<ptrdiff_t>(length), b.begin());
  return static_cast<int>(differs.first - a.begin());
}

void PrefixStore::keep(std::vector<int32_t> tokens, BlockTable blocks) {
  const int length = static_cast<int>(tokens.size());
  blocks.truncate(length);
  LLAMITA_CHECK(blocks.capacity() >= length, length, " tokens in blocks for ", blocks.capacity());
  // What begins the new sequence is found in it; a second copy would only hold a partly filled block.
  entries_.remove_if([&](const Entry& entry) {
    return common_prefix(entry.tokens, tokens) == static_cast<int>(entry.tokens.size());
  });
  if (length == 0) return;
  entries_.push_back({std::move(tokens), std::move(blocks)});
  if (entries_.size() > limit_) entries_.pop_front();
}

int PrefixStore::longest_match(std::span<const int32_t> tokens) const {
  int longest = 0;
  for (const Entry& entry : entries_) longest = std::max(longest, common_prefix(entry.tokens, tokens));
  return longest;
}

int PrefixStore::adopt(std::span<const int32_t> tokens, BlockTable& table, int block_tokens) {
  auto best = entries_.end();
  int longest = 0;
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    const int match = common_prefix(entry->tokens, tokens);
    if (match > longest) {
      longest = match;
      best = entry;
    }
  }
  if (longest == 0) return 0;
  const int full = longest / block_tokens;
  table.share_prefix(best->blocks, full);
  // A short match takes nothing from a long entry: its later blocks would be lost with the one moved.
  const bool ends_in_tail = static_cast<int>(best->blocks.blocks().size()) == full + 1;
  if (longest % block_tokens == 0 || !ends_in_tail || !best->blocks.exclusive(longest - 1)) {
    return full * block_tokens;
  }
  table.take_last_of(best->blocks);
  best->tokens.resize(static_cast<size_t>(full * block_tokens));
  if (full == 0) entries_.erase(best);
  return longest;
}

bool PrefixStore::evict_oldest() {
  if (entries_.empty()) return false;
  entries_.pop_front();
  return true;
}

void PrefixStore::append_blocks(std::vector<BlockId>& out) const {
  for (const Entry& entry : entries_) {
    out.insert(out.end(), entry.blocks.blocks().begin(), entry.blocks.blocks().end());
  }
}

}  // namespace llamita::kv
