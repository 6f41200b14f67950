#include "kv/block_table.h"

#include <utility>

#include "base/check.h"

namespace llamita::kv {

BlockTable::BlockTable(BlockTable&& other) noexcept
    : pool_(other.pool_), blocks_(std::exchange(other.blocks_, {})) {}

BlockTable& BlockTable::operator=(BlockTable&& other) noexcept {
  if (this != &other) {
    truncate(0);
    pool_ = other.pool_;
    blocks_ = std::exchange(other.blocks_, {});
  }
  return *this;
}

bool BlockTable::grow(int tokens) {
  const int missing = pool_->blocks_for(tokens) - static_cast<int>(blocks_.size());
  if (missing > pool_->free_blocks()) return false;
  for (int i = 0; i < missing; ++i) blocks_.push_back(*pool_->take());
  return true;
}

void BlockTable::truncate(int tokens) {
  const auto keep = static_cast<size_t>(pool_->blocks_for(tokens));
  while (blocks_.size() > keep) {
    pool_->release(blocks_.back());
    blocks_.pop_back();
  }
}

void BlockTable::share(BlockId block) {
  pool_->share(block);
  blocks_.push_back(block);
}

bool BlockTable::exclusive(int position) const {
  LLAMITA_CHECK(position >= 0 && position < capacity(), "position ", position, " of ", capacity());
  const BlockId block = blocks_[static_cast<size_t>(position / pool_->block_tokens())];
  return pool_->references(block) == 1 && !pool_->kept(block);
}

}  // namespace llamita::kv
