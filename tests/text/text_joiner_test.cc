// Text comes whole, valid and as soon as it is certain.
#include "text/text_joiner.h"

#include <gtest/gtest.h>

#include "text/unicode.h"

namespace llamita {
namespace {

std::string added(TextJoiner& joiner, std::string_view bytes, bool is_byte = false) {
  std::string out;
  joiner.add(bytes, is_byte, out);
  return out;
}
std::string finished(TextJoiner& joiner) {
  std::string out;
  joiner.finish(out);
  return out;
}

TEST(TextJoiner, ACharacterAppearsWithItsLastByte) {
  TextJoiner joiner(false);
  EXPECT_EQ(added(joiner, "a\xF0"), "a");
  EXPECT_EQ(added(joiner, "\x9F\x98"), "");
  EXPECT_EQ(added(joiner, "\x80z"), "\U0001F600z");
  EXPECT_EQ(finished(joiner), "");
}

TEST(TextJoiner, BrokenCharactersAreReplacedAsSoonAsTheyAreKnownToBe) {
  TextJoiner joiner(false);
  EXPECT_EQ(added(joiner, "\xFF"), "\uFFFD");
  EXPECT_EQ(added(joiner, "\xE6\x97"), "");
  EXPECT_EQ(added(joiner, "b"), "\uFFFDb");
  EXPECT_EQ(added(joiner, "\xE6"), "");
  EXPECT_EQ(finished(joiner), "\uFFFD");
}

TEST(TextJoiner, ARunOfByteTokensIsJudgedAsAWhole) {
  TextJoiner joiner(false);
  EXPECT_EQ(added(joiner, "\xC3", true), "");
  EXPECT_EQ(added(joiner, "\xA9", true), "");
  EXPECT_EQ(added(joiner, "x"), "\u00E9x");
  for (const char* byte : {"\xC3", "\xA9", "\xFF"}) EXPECT_EQ(added(joiner, byte, true), "");
  EXPECT_EQ(finished(joiner), "\uFFFD\uFFFD\uFFFD");
}

TEST(TextJoiner, OneLeadingSpaceIsDropped) {
  TextJoiner joiner(true);
  EXPECT_EQ(added(joiner, ""), "");
  EXPECT_EQ(added(joiner, "  a"), " a");
  EXPECT_EQ(added(joiner, " b"), " b");
  TextJoiner other(true);
  EXPECT_EQ(added(other, "a b"), "a b");
  EXPECT_EQ(added(other, " c"), " c");
}

TEST(UnicodeText, ReplacesMaximalBrokenParts) {
  const auto lossy = [](std::string_view bytes) {
    std::string out;
    unicode::append_lossy(out, bytes);
    return out;
  };
  const std::string bad = "\uFFFD";
  EXPECT_EQ(lossy("\xF0\x9F\x98 x"), bad + " x");               // cut short: one
  EXPECT_EQ(lossy("\xED\xA0\x80"), bad + bad + bad);            // a surrogate: one each
  EXPECT_EQ(lossy("\xC0\xAF"), bad + bad);                      // overlong
  EXPECT_EQ(lossy("\xF4\x90\x80\x80"), bad + bad + bad + bad);  // beyond U+10FFFF
  EXPECT_EQ(lossy("\xF4\x8F\xBF\xBF\xE2\x82"), "\U0010FFFF" + bad);
  EXPECT_FALSE(unicode::is_valid("\xE2\x82"));
  EXPECT_TRUE(unicode::is_valid("\u20AC"));
}

TEST(UnicodeClasses, AreThoseOfUnicode16) {
  size_t letters = 0, numbers = 0, marks = 0, spaces = 0;
  for (char32_t c = 0; c < 0x110000; ++c) {
    letters += unicode::is_letter(c);
    numbers += unicode::is_number(c);
    marks += unicode::is_mark(c);
    spaces += unicode::is_space(c);
    if (c < 0xD800 || c > 0xDFFF) {
      ASSERT_EQ(unicode::decode(unicode::to_utf8(c), 0).c, c);
    }
  }
  EXPECT_EQ(letters, 141028u);  // as counted in Hugging Face's tokenizers 0.23.3
  EXPECT_EQ(numbers, 1911u);
  EXPECT_EQ(marks, 2501u);
  EXPECT_EQ(spaces, 25u);
  EXPECT_EQ(unicode::category(0x110000), unicode::Category::Cn);
}

}  // namespace
}  // namespace llamita
