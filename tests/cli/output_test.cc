#include "cli/output.h"

#include <gtest/gtest.h>

namespace llamita::cli {
namespace {

TEST(TerminalFilter, LeavesTextNewlinesAndTabs) {
  const std::string text = "Ein Lama sagt: \xC3\xA4h,\n\tja \xF0\x9F\xA6\x99 \xC2\xA0.";
  EXPECT_EQ(TerminalFilter().push(text), text);
}

TEST(TerminalFilter, TakesOutWhatDrivesATerminal) {
  EXPECT_EQ(TerminalFilter().push("a\033[31mred\033[0m"), "ared");
  EXPECT_EQ(TerminalFilter().push("a\033]0;title\007b"), "ab");
  EXPECT_EQ(TerminalFilter().push("a\033]52;c;aGk=\033\\b"), "ab");
  EXPECT_EQ(TerminalFilter().push("a\033Pq#0\033\\b"), "ab");
  EXPECT_EQ(TerminalFilter().push("a\033(0b\033cc"), "abc");
  EXPECT_EQ(TerminalFilter().push("over\rwrite\b\a\x7F"), "overwrite");
  EXPECT_EQ(TerminalFilter().push("a\xC2\x9B\x33\x31mb"), "a31mb");  // the one-character CSI
}

TEST(TerminalFilter, KnowsSequencesThatArriveInParts) {
  const std::string text = "x\033[1;31my\033]0;t\033\\z\xC3\xA9\xC2\x85!";
  std::string by_bytes;
  TerminalFilter filter;
  for (const char c : text) by_bytes += filter.push(std::string(1, c));
  EXPECT_EQ(by_bytes, "xyz\xC3\xA9!");
}

TEST(TerminalFilter, AnUnfinishedSequenceDoesNotSwallowTheReply) {
  EXPECT_EQ(TerminalFilter().push("\033]never ends\nbut this is text"), "\nbut this is text");
  const std::string out = TerminalFilter().push("\033]" + std::string(1000, 'x'));
  EXPECT_GT(out.size(), 500u);
}

TEST(ToUtf8, KeepsWhatIsWellFormed) {
  for (const char* text : {"", "plain", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\xA6\x99", "\xF4\x8F\xBF\xBF"}) {
    EXPECT_EQ(to_utf8(text), text);
  }
}

TEST(ToUtf8, ReplacesWhatIsNot) {
  const std::string bad = "\xEF\xBF\xBD";
  EXPECT_EQ(to_utf8("a\xFFz"), "a" + bad + "z");
  EXPECT_EQ(to_utf8("\xC0\xAF"), bad + bad);                // overlong slash
  EXPECT_EQ(to_utf8("\xED\xA0\x80"), bad + bad + bad);      // a surrogate
  EXPECT_EQ(to_utf8("\xF4\x90\x80\x80"), bad + bad + bad + bad);  // beyond the last character
  EXPECT_EQ(to_utf8("cut \xE2\x82"), "cut " + bad + bad);
}

}  // namespace
}  // namespace llamita::cli
