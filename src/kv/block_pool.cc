#include "kv/block_pool.h"

#include "base/cat.h"
#include "base/check.h"

namespace llamita::kv {

BlockPool::BlockPool(int blocks, int block_tokens)
    : block_tokens_(block_tokens), references_(static_cast<size_t>(blocks), 0) {
  LLAMITA_CHECK(blocks > 0 && block_tokens > 0, blocks, " blocks of ", block_tokens, " tokens");
  free_.reserve(references_.size());
  for (BlockId block = blocks - 1; block >= 0; --block) free_.push_back(block);
}

std::optional<BlockId> BlockPool::take() {
  if (free_.empty()) return std::nullopt;
  const BlockId block = free_.back();
  free_.pop_back();
  references_[static_cast<size_t>(block)] = 1;
  return block;
}

void BlockPool::share(BlockId block) {
  LLAMITA_CHECK(references(block) > 0, "block ", block, " is free and cannot be shared");
  ++references_[static_cast<size_t>(block)];
}

void BlockPool::release(BlockId block) {
  LLAMITA_CHECK(references(block) > 0, "block ", block, " was released more often than taken");
  if (--references_[static_cast<size_t>(block)] == 0) free_.push_back(block);
}

int BlockPool::references(BlockId block) const {
  LLAMITA_CHECK(block >= 0 && block < blocks(), "block ", block, " of ", blocks());
  return references_[static_cast<size_t>(block)];
}

std::string BlockPool::check_integrity(std::span<const BlockId> held) const {
  std::vector<int32_t> owners(references_.size(), 0);
  for (const BlockId block : held) {
    if (block < 0 || block >= blocks()) return cat("an owner holds block ", block, " of ", blocks());
    ++owners[static_cast<size_t>(block)];
  }
  std::vector<bool> is_free(references_.size(), false);
  for (const BlockId block : free_) {
    if (is_free[static_cast<size_t>(block)]) return cat("block ", block, " is on the free list twice");
    is_free[static_cast<size_t>(block)] = true;
  }
  for (size_t block = 0; block < references_.size(); ++block) {
    if (references_[block] != owners[block]) {
      return cat("block ", block, " counts ", references_[block], " references but has ", owners[block],
                 " owners");
    }
    if (is_free[block] != (references_[block] == 0)) {
      return cat("block ", block, " has ", references_[block], " references and is ",
                 is_free[block] ? "free" : "not free");
    }
  }
  return "";
}

}  // namespace llamita::kv
