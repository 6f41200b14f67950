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

void BlockTable::share_prefix(const BlockTable& other, int count) {
  LLAMITA_CHECK(blocks_.empty() && count <= static_cast<int>(other.blocks_.size()), count, " blocks of ",
                other.blocks_.size());
  for (int i = 0; i < count; ++i) {
    pool_->share(other.blocks_[static_cast<size_t>(i)]);
    blocks_.push_back(other.blocks_[static_cast<size_t>(i)]);
  }
}

void BlockTable::take_last_of(BlockTable& other) {
  LLAMITA_CHECK(!other.blocks_.empty(), "an empty table has no last block");
  blocks_.push_back(other.blocks_.back());
  other.blocks_.pop_back();
}

bool BlockTable::exclusive(int position) const {
  LLAMITA_CHECK(position >= 0 && position < capacity(), "position ", position, " of ", capacity());
  return pool_->references(blocks_[static_cast<size_t>(position / pool_->block_tokens())]) == 1;
}

}  // namespace llamita::kv
