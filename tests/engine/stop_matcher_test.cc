#include "engine/stop_matcher.h"

#include <gtest/gtest.h>

#include <random>

namespace llamita {
namespace {

TEST(StopMatcher, StopStringAcrossPiecesIsNeverShown) {
  StopMatcher matcher({"</s>"});
  EXPECT_EQ(matcher.push("hello <"), "hello ");
  EXPECT_EQ(matcher.push("/"), "");
  EXPECT_EQ(matcher.push("s"), "");
  EXPECT_FALSE(matcher.matched());
  EXPECT_EQ(matcher.push("> more"), "");
  EXPECT_TRUE(matcher.matched());
  EXPECT_EQ(matcher.push("and more"), "");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, TextThatOnlyBeganLikeAStopStringComesOut) {
  StopMatcher matcher({"STOP"});
  EXPECT_EQ(matcher.push("ST"), "");
  EXPECT_EQ(matcher.push("ST"), "ST");
  EXPECT_EQ(matcher.finish(), "ST");
  EXPECT_FALSE(matcher.matched());
}

TEST(StopMatcher, SelfOverlappingStopString) {
  StopMatcher matcher({"aab"});
  EXPECT_EQ(matcher.push("aa") + matcher.push("aa") + matcher.push("b"), "aa");
  EXPECT_TRUE(matcher.matched());
}

TEST(StopMatcher, LongerOfTwoThatEndTogetherWins) {
  StopMatcher matcher({"\n", "User:\n"});
  EXPECT_EQ(matcher.push("ok User:") + matcher.push("\n"), "ok ");
}

// Whatever the pieces, the text is cut at the stop string that is complete first.
TEST(StopMatcher, SplittingIntoPiecesChangesNothing) {
  std::mt19937 random(1);
  int matches = 0;
  for (int round = 0; round < 3000; ++round) {
    const auto word = [&](size_t length) {
      std::string out;
      for (size_t i = 0; i < length; ++i) out += static_cast<char>('a' + random() % 2);
      return out;
    };
    const std::vector<std::string> stops = {word(1 + random() % 5), word(3 + random() % 4)};
    const std::string text = word(random() % 16);
    size_t cut = text.size();
    bool expect_match = false;
    for (size_t end = 1; end <= text.size() && !expect_match; ++end) {
      for (const std::string& stop : stops) {
        if (end < stop.size() || text.compare(end - stop.size(), stop.size(), stop) != 0) continue;
        cut = std::min(cut, end - stop.size());
        expect_match = true;
      }
    }
    StopMatcher matcher(stops);
    std::string shown;
    for (size_t at = 0; at < text.size();) {
      const size_t length = 1 + random() % 4;
      shown += matcher.push(std::string_view(text).substr(at, length));
      ASSERT_EQ(shown, text.substr(0, shown.size()));
      ASSERT_LE(shown.size(), cut);
      at += length;
    }
    shown += matcher.finish();
    matches += expect_match ? 1 : 0;
    ASSERT_EQ(matcher.matched(), expect_match) << text;
    ASSERT_EQ(shown, text.substr(0, cut)) << text << " stops " << stops[0] << " " << stops[1];
  }
  EXPECT_GT(matches, 500);
}

}  // namespace
}  // namespace llamita
