#include "kv/block_pool.h"

#include "base/cat.h"
#include "base/check.h"

namespace llamita::kv {

BlockPool::BlockPool(int blocks, int block_tokens)
    : block_tokens_(block_tokens),
      references_(static_cast<size_t>(blocks), 0),
      kept_(static_cast<size_t>(blocks), false) {
  LLAMITA_CHECK(blocks > 0 && block_tokens > 0, blocks, " blocks of ", block_tokens, " tokens");
  free_.reserve(references_.size());
  for (BlockId block = blocks - 1; block >= 0; --block) free_.push_back(block);
}

size_t BlockPool::index(BlockId block) const {
  LLAMITA_CHECK(block >= 0 && block < blocks(), "block ", block, " of ", blocks());
  return static_cast<size_t>(block);
}

std::optional<BlockId> BlockPool::take() {
  if (free_.empty()) return std::nullopt;
  const BlockId block = free_.back();
  free_.pop_back();
  references_[static_cast<size_t>(block)] = 1;
  return block;
}

void BlockPool::share(BlockId block) {
  int32_t& references = references_[index(block)];
  LLAMITA_CHECK(references > 0 || kept(block), "block ", block, " is free and cannot be shared");
  if (++references == 1) --idle_;
  if (references == 2) ++shared_;
}

void BlockPool::release(BlockId block) {
  int32_t& references = references_[index(block)];
  LLAMITA_CHECK(references > 0, "block ", block, " was released more often than taken");
  if (--references == 1) --shared_;
  if (references > 0) return;
  if (kept(block)) {
    ++idle_;
  } else {
    free_.push_back(block);
  }
}

int BlockPool::references(BlockId block) const { return references_[index(block)]; }

void BlockPool::keep(BlockId block) {
  LLAMITA_CHECK(references(block) > 0 && !kept(block), "block ", block, " is free or kept already");
  kept_[index(block)] = true;
}

void BlockPool::drop(BlockId block) {
  LLAMITA_CHECK(kept(block), "block ", block, " is not kept");
  kept_[index(block)] = false;
  if (references(block) > 0) return;
  --idle_;
  free_.push_back(block);
}

bool BlockPool::kept(BlockId block) const { return kept_[index(block)]; }

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
  int idle = 0, shared = 0;
  for (size_t block = 0; block < references_.size(); ++block) {
    if (references_[block] != owners[block]) {
      return cat("block ", block, " counts ", references_[block], " references but has ", owners[block],
                 " owners");
    }
    if (is_free[block] != (references_[block] == 0 && !kept_[block])) {
      return cat("block ", block, " has ", references_[block], " references, is ", kept_[block] ? "" : "not ",
                 "kept and is ", is_free[block] ? "free" : "not free");
    }
    idle += kept_[block] && references_[block] == 0 ? 1 : 0;
    shared += references_[block] > 1 ? 1 : 0;
  }
  if (idle != idle_) return cat(idle, " blocks are idle, but ", idle_, " are counted");
  if (shared != shared_) return cat(shared, " blocks are shared, but ", shared_, " are counted");
  return "";
}

}  // namespace llamita::kv
