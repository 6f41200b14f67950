#include <gtest/gtest.h>

#include <vector>

#include "kv/block_pool.h"
#include "kv/block_table.h"
#include "kv/prefix_store.h"

namespace llamita::kv {
namespace {

std::vector<int32_t> counted(int begin, int end) {
  std::vector<int32_t> tokens;
  for (int i = begin; i < end; ++i) tokens.push_back(i);
  return tokens;
}

TEST(BlockPool, EveryBlockOnceAndBackAgain) {
  BlockPool pool(3, 4);
  const BlockId a = *pool.take(), b = *pool.take(), c = *pool.take();
  EXPECT_FALSE(pool.take().has_value());
  EXPECT_EQ(a + b + c, 0 + 1 + 2);
  pool.share(b);
  pool.release(b);
  EXPECT_EQ(pool.free_blocks(), 0) << "somebody still has it";
  pool.release(b);
  EXPECT_EQ(pool.free_blocks(), 1);
  EXPECT_EQ(*pool.take(), b);
  EXPECT_EQ(pool.check_integrity(std::vector<BlockId>{a, b, c}), "");
  EXPECT_NE(pool.check_integrity(std::vector<BlockId>{a, b}), "");
  EXPECT_NE(pool.check_integrity(std::vector<BlockId>{a, b, c, c}), "");
  EXPECT_NE(pool.check_integrity(std::vector<BlockId>{a, b, 3}), "");
}

TEST(BlockPoolDeathTest, MisuseIsCaught) {
  BlockPool pool(2, 4);
  const BlockId block = *pool.take();
  pool.release(block);
  EXPECT_DEATH(pool.release(block), "released more often");
  EXPECT_DEATH(pool.share(block), "is free");
  EXPECT_DEATH(pool.references(2), "block 2 of 2");
}

TEST(BlockTable, GrowsAllOrNothingAndTruncates) {
  BlockPool pool(4, 4);
  BlockTable table(pool);
  EXPECT_TRUE(table.grow(9));
  EXPECT_EQ(table.capacity(), 12);
  EXPECT_TRUE(table.grow(12));
  EXPECT_EQ(pool.free_blocks(), 1);
  EXPECT_FALSE(table.grow(17));
  EXPECT_EQ(pool.free_blocks(), 1);
  table.truncate(5);
  EXPECT_EQ(table.capacity(), 8);
  table.truncate(8);
  EXPECT_EQ(pool.free_blocks(), 2);
  {
    BlockTable other(pool);
    other.share_prefix(table, 1);
    EXPECT_FALSE(table.exclusive(3));
    EXPECT_TRUE(table.exclusive(4));
    BlockTable moved = std::move(other);
    EXPECT_EQ(pool.references(table.blocks()[0]), 2);
  }
  EXPECT_TRUE(table.exclusive(3));
  table.truncate(0);
  EXPECT_EQ(pool.free_blocks(), 4);
}

class PrefixStoreTest : public testing::Test {
 protected:
  void keep(const std::vector<int32_t>& tokens) {
    BlockTable table(pool_);
    ASSERT_TRUE(table.grow(static_cast<int>(tokens.size())));
    store_.keep(tokens, std::move(table));
  }
  BlockPool pool_{16, 4};
  PrefixStore store_{3};
};

TEST_F(PrefixStoreTest, SharesFullBlocksAndMovesATail) {
  keep(counted(0, 10));
  EXPECT_EQ(pool_.free_blocks(), 13);
  BlockTable first(pool_), second(pool_);
  EXPECT_EQ(store_.longest_match(counted(0, 20)), 10);
  EXPECT_EQ(store_.adopt(counted(0, 20), first, 4), 10) << "two full blocks and the tail";
  EXPECT_TRUE(first.exclusive(9));
  EXPECT_FALSE(first.exclusive(7));
  EXPECT_EQ(store_.adopt(counted(0, 20), second, 4), 8) << "the tail has a new owner";
  EXPECT_EQ(pool_.free_blocks(), 13);
}

TEST_F(PrefixStoreTest, AShortMatchTakesNothingFromALongEntry) {
  keep(counted(0, 14));
  BlockTable table(pool_);
  EXPECT_EQ(store_.adopt(counted(0, 6), table, 4), 4);
  EXPECT_EQ(store_.longest_match(counted(0, 14)), 14);
  BlockTable none(pool_);
  EXPECT_EQ(store_.adopt(counted(1, 6), none, 4), 0);
}

TEST_F(PrefixStoreTest, AMovedTailKeepsOnlyWhatMatched) {
  keep(counted(0, 7));
  BlockTable table(pool_);
  std::vector<int32_t> tokens = counted(0, 6);
  EXPECT_EQ(store_.adopt(tokens, table, 4), 6);
  EXPECT_EQ(store_.longest_match(counted(0, 7)), 4);
}

TEST_F(PrefixStoreTest, ExactBlockBordersAndEviction) {
  keep(counted(0, 8));
  BlockTable table(pool_);
  EXPECT_EQ(store_.adopt(counted(0, 8), table, 4), 8);
  table.truncate(0);
  keep(counted(100, 104));
  keep(counted(0, 12));  // contains the first entry, which goes
  keep(counted(200, 204));
  EXPECT_EQ(pool_.free_blocks(), 16 - 1 - 3 - 1);
  keep(counted(300, 304));  // over the limit: the oldest goes
  EXPECT_EQ(store_.longest_match(counted(100, 104)), 0);
  while (store_.evict_oldest()) {
  }
  EXPECT_EQ(pool_.free_blocks(), 16);
  EXPECT_FALSE(store_.evict_oldest());
}

}  // namespace
}  // namespace llamita::kv
