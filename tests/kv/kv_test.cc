#include <gtest/gtest.h>

#include <vector>

#include "kv/block_pool.h"
#include "kv/block_table.h"
#include "kv/prefix_cache.h"

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
  EXPECT_EQ(pool.shared_blocks(), 1);
  pool.release(b);
  EXPECT_EQ(pool.shared_blocks(), 0);
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
    other.share(table.blocks()[0]);
    EXPECT_FALSE(table.exclusive(3));
    EXPECT_TRUE(table.exclusive(4));
    BlockTable moved = std::move(other);
    EXPECT_EQ(pool.references(table.blocks()[0]), 2);
  }
  EXPECT_TRUE(table.exclusive(3));
  table.truncate(0);
  EXPECT_EQ(pool.free_blocks(), 4);
}

TEST(BlockPool, KeptBlocksAreIdleUntilDroppedOrSharedAgain) {
  BlockPool pool(2, 4);
  const BlockId block = *pool.take();
  pool.keep(block);
  BlockTable user(pool);
  EXPECT_EQ(pool.idle_blocks(), 0);
  pool.release(block);
  EXPECT_EQ(pool.idle_blocks(), 1);
  EXPECT_EQ(pool.free_blocks(), 1);
  EXPECT_EQ(pool.check_integrity({}), "");
  user.share(block);
  EXPECT_EQ(pool.idle_blocks(), 0);
  EXPECT_FALSE(user.exclusive(0)) << "others may find it";
  pool.drop(block);
  EXPECT_TRUE(user.exclusive(0));
  user.truncate(0);
  EXPECT_EQ(pool.free_blocks(), 2);
}

class PrefixCacheTest : public testing::TestWithParam<int> {
 protected:
  // Keeps a sequence that has ended, as far as it is not there yet.
  void keep(const std::vector<int32_t>& tokens, const std::string& salt = "") {
    const std::span<const int32_t> all(tokens);
    BlockTable table(pool_);
    const auto match = cache_.find(tokens, salt);
    cache_.adopt(match, table);
    ASSERT_TRUE(table.grow(static_cast<int>(tokens.size())));
    PrefixCache::Place place = match.blocks.empty() ? cache_.start(salt) : match.place;
    size_t at = match.blocks.size() * 4;
    for (; at + 4 <= tokens.size(); at += 4)
      place = *cache_.keep(place, all.subspan(at, 4), table.blocks()[at / 4]);
    if (at < tokens.size()) cache_.keep_tail(place, all.subspan(at), table.blocks()[at / 4]);
    table.truncate(0);
    EXPECT_EQ(cache_.check_integrity(), "");
  }
  int found(const std::vector<int32_t>& tokens, const std::string& salt = "") {
    return cache_.find(tokens, salt).tokens;
  }

  BlockPool pool_{16, 4};
  PrefixCache cache_{pool_, {7, GetParam()}};
};
// With few or no bits of hash everything collides and nothing changes.
INSTANTIATE_TEST_SUITE_P(HashBits, PrefixCacheTest, testing::Values(64, 2, 0));

TEST_P(PrefixCacheTest, SharesFullBlocksAndMovesATail) {
  keep(counted(0, 10));
  EXPECT_EQ(pool_.idle_blocks(), 3);
  BlockTable first(pool_), second(pool_);
  EXPECT_EQ(found(counted(0, 20)), 10) << "two full blocks and the tail";
  cache_.adopt(cache_.find(counted(0, 20), ""), first);
  EXPECT_TRUE(first.exclusive(9));
  EXPECT_FALSE(first.exclusive(7));
  EXPECT_EQ(found(counted(0, 20)), 8) << "the tail has a new owner";
  cache_.adopt(cache_.find(counted(0, 20), ""), second);
  EXPECT_EQ(pool_.free_blocks(), 13);
  EXPECT_EQ(pool_.shared_blocks(), 2);
  EXPECT_EQ(cache_.check_integrity(), "");
}

TEST_P(PrefixCacheTest, OnlyWhatIsEqualFromTheStartIsFound) {
  keep(counted(0, 14));
  EXPECT_EQ(found(counted(0, 6)), 4) << "the middle of a full block helps nobody";
  EXPECT_EQ(found(counted(0, 13)), 13) << "the start of a tail does";
  EXPECT_EQ(found(counted(1, 6)), 0);
  EXPECT_EQ(found(counted(4, 8)), 0) << "the same tokens at another place";
  EXPECT_EQ(found({}), 0);
  keep({9, 9, 9, 9, 4, 5, 6, 7});
  EXPECT_EQ(found({9, 9, 9, 9, 4, 5, 6, 7, 8}), 8);
  EXPECT_EQ(found({0, 1, 2, 3, 9, 9, 9, 9}), 4);
}

TEST_P(PrefixCacheTest, SaltsShareNothing) {
  keep(counted(0, 9), "a");
  EXPECT_EQ(found(counted(0, 9), "a"), 9);
  EXPECT_EQ(found(counted(0, 9), "b"), 0);
  EXPECT_EQ(found(counted(0, 9), ""), 0);
  keep(counted(0, 5), "b");
  EXPECT_EQ(found(counted(0, 9), "b"), 5);
  while (cache_.evict_oldest()) EXPECT_EQ(cache_.check_integrity(), "");
  EXPECT_EQ(found(counted(0, 9), "a"), 0);
}

TEST_P(PrefixCacheTest, ASecondBlockOfTheSameTokensIsNotKept) {
  keep(counted(0, 8));
  BlockTable other(pool_);
  ASSERT_TRUE(other.grow(8));
  EXPECT_FALSE(cache_.keep(cache_.start(""), counted(0, 4), other.blocks()[0]).has_value());
  EXPECT_TRUE(other.exclusive(0));
}

TEST_P(PrefixCacheTest, TheOldestGoesFirstFromItsEnd) {
  keep(counted(0, 8));
  keep(counted(100, 104));
  keep(counted(0, 12));  // uses the first two blocks again
  EXPECT_EQ(pool_.idle_blocks(), 4);
  EXPECT_TRUE(cache_.evict_oldest());
  EXPECT_EQ(found(counted(100, 104)), 0);
  BlockTable user(pool_);
  cache_.adopt(cache_.find(counted(0, 8), ""), user);
  EXPECT_TRUE(cache_.evict_oldest());
  EXPECT_FALSE(cache_.evict_oldest()) << "the rest is in use";
  EXPECT_EQ(found(counted(0, 12)), 8);
  user.truncate(0);
  EXPECT_TRUE(cache_.evict_oldest());
  EXPECT_EQ(found(counted(0, 12)), 4);
  EXPECT_TRUE(cache_.evict_oldest());
  EXPECT_EQ(pool_.free_blocks(), 16);
}

TEST_P(PrefixCacheTest, FewTailsStandAtOnePlace) {
  for (int i = 0; i < 12; ++i) keep({i, i, i});
  EXPECT_EQ(found({0, 0, 0}), 0);
  EXPECT_EQ(found({11, 11, 11}), 3);
  EXPECT_EQ(pool_.idle_blocks(), 8);
}

}  // namespace
}  // namespace llamita::kv
