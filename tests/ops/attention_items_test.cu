// The walk over flash3's work items, on the host, for random batches: every row of every unit in every part
// comes once, and items of one tile of keys behind all others unless their sequence has no longer one.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <tuple>
#include <vector>

#include "ops/attention/flash3_items.cuh"

namespace llamita {
namespace {

// A random batch and what its items must be.
struct ItemsScene {
  explicit ItemsScene(std::mt19937& random) {
    const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
    starts = {0};
    for (int i = below(6); i > 0; --i) {
      const int rows = below(3) == 0 ? below(5) : below(700);
      starts.push_back(starts.back() + rows);
      lengths.push_back(rows + (below(2) == 0 ? 0 : below(300)));
    }
    params.sequences = static_cast<int>(lengths.size());
    params.q_start = starts.data();
    params.kv_len = lengths.data();
    params.kv_fit = 1 + below(4000);
    device::Flash3Cut& cut = params.cut;
    cut.pack_log2 = below(3);
    cut.heads = 1 << (below(5) + cut.pack_log2);
    cut.rows = below(2) == 0 ? 128 : 192;
    cut.keys = below(3) == 0 ? 64 : 128;
    cut.units_per_kv = 1;
    cut.splits = below(3) == 0 ? 3 : 1;
    cut.causal = below(4) > 0;
    cut.window = below(4) == 0 ? 100 : 0;
  }
  int rows(int sequence) const {
    return starts[static_cast<size_t>(sequence) + 1] - starts[static_cast<size_t>(sequence)];
  }
  int count() const {
    int items = 0;
    for (int i = 0; i < params.sequences; ++i)
      items += (rows(i) + params.cut.tokens() - 1) / params.cut.tokens() * params.cut.units();
    return items * params.cut.splits;
  }
  bool has_one_tile(int sequence, int first) const {
    const int position = lengths[static_cast<size_t>(sequence)] - rows(sequence) + first;
    return params.cut.causal && position + params.cut.tokens() <= params.cut.keys;
  }
  bool comes_late(const device::Flash3Item& item) const {
    const int first = item.token0 - starts[static_cast<size_t>(item.sequence)];
    const int tokens = params.cut.tokens(), last = (rows(item.sequence) - 1) / tokens * tokens;
    return has_one_tile(item.sequence, first) && !has_one_tile(item.sequence, last);
  }

  std::vector<int32_t> starts, lengths;
  device::Flash3Params params{};
};

TEST(Flash3Items, EachComesOnceAndShortOnesLast) {
  std::mt19937 random(3);
  int late_items = 0;
  for (int run = 0; run < 1000; ++run) {
    const ItemsScene scene(random);
    device::Flash3Walk walk{};
    device::Flash3Items items(scene.params, walk);
    std::vector<device::Flash3Item> found;
    std::set<std::tuple<int, int, int>> places;
    bool late = false;
    for (device::Flash3Item item; items.find(static_cast<int>(found.size()), item); found.push_back(item)) {
      const int begin = scene.starts[static_cast<size_t>(item.sequence)], first = item.token0 - begin;
      const int rows = scene.rows(item.sequence), tokens = scene.params.cut.tokens();
      EXPECT_TRUE(places.emplace(item.token0, item.unit, item.split).second) << "run " << run;
      EXPECT_EQ(first % tokens, 0) << "run " << run;
      EXPECT_EQ(item.valid_tokens, std::min(tokens, rows - first)) << "run " << run;
      EXPECT_EQ(item.position0, item.kv_len - rows + first) << "run " << run;
      EXPECT_LE(late, scene.comes_late(item)) << "run " << run;
      late = scene.comes_late(item);
      late_items += late;
    }
    ASSERT_EQ(static_cast<int>(found.size()), scene.count()) << "run " << run;
    // A block has tickets with gaps, its last one behind the last item.
    device::Flash3Walk other{};
    device::Flash3Items some(scene.params, other);
    size_t ticket = random() % 9;
    for (device::Flash3Item item; ticket < found.size(); ticket += 1 + random() % 17) {
      ASSERT_TRUE(some.find(static_cast<int>(ticket), item)) << "run " << run;
      EXPECT_EQ(std::tie(item.token0, item.unit, item.split, item.tiles.begin, item.tiles.end),
                std::tie(found[ticket].token0, found[ticket].unit, found[ticket].split,
                         found[ticket].tiles.begin, found[ticket].tiles.end))
          << "run " << run;
    }
    device::Flash3Item none;
    EXPECT_FALSE(some.find(static_cast<int>(ticket), none)) << "run " << run;
    EXPECT_FALSE(some.find(static_cast<int>(ticket), none)) << "run " << run << ", asked again";
  }
  EXPECT_GT(late_items, 0);
}

}  // namespace
}  // namespace llamita
