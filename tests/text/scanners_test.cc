// The hand-written scanners against PCRE2 running the pattern they stand for.
#include "text/scanners.h"

#include <gtest/gtest.h>

#include "text/regex.h"
#include "text/tokenizer_golden.h"
#include "text/unicode.h"

namespace llamita {
namespace {

using Ends = std::vector<size_t>;

class Scanners : public testing::TestWithParam<std::string_view> {
 protected:
  Scanner scanner_ = find_scanner(GetParam());
  Regex regex_{std::string(GetParam()), "test"};

  Ends scanned(std::string_view text) const {
    Ends ends;
    for (size_t at = 0; at < text.size();) ends.push_back(at = scanner_(text, at));
    return ends;
  }
  Ends matched(std::string_view text) const {
    Ends ends;
    Regex::Match match{};
    for (size_t at = 0; at < text.size() && regex_.search(text, at, match);) ends.push_back(at = match.end);
    return ends;
  }
};

// PCRE2 knows fewer characters than the scanners' tables.
bool has_newer_characters(const std::string& text) {
  static const Regex unassigned(R"(\p{Cn})", "test");
  Regex::Match match{};
  return unassigned.search(text, 0, match);
}

TEST_P(Scanners, FindTheMatchesOfTheirPattern) {
  size_t compared = 0;
  for (const std::string name : {"smollm", "qwen2", "tekken", "odd"}) {
    for (const auto& fields : test::table(name + "/cases.tsv")) {
      std::string text;
      unicode::append_lossy(text, test::from_hex(fields[0]));
      if (has_newer_characters(text)) continue;
      EXPECT_EQ(scanned(text), matched(text)) << text;
      ++compared;
    }
  }
  EXPECT_GT(compared, 1000u);
}

// Every string of up to four of the characters that the patterns tell apart.
TEST_P(Scanners, FindTheMatchesInAllShortStrings) {
  const std::string_view alphabet[] = {"a", "A",  "\u01C5", "京", "\u0301", "1",
                                       " ", "\n", "\u00A0", "'",  "s",      "/"};
  constexpr size_t kCount = std::size(alphabet);
  for (size_t length = 1; length <= 4; ++length) {
    size_t combinations = 1;
    for (size_t i = 0; i < length; ++i) combinations *= kCount;
    for (size_t number = 0; number < combinations; ++number) {
      std::string text;
      for (size_t i = 0, rest = number; i < length; ++i, rest /= kCount) text += alphabet[rest % kCount];
      ASSERT_EQ(scanned(text), matched(text)) << text;
    }
  }
}

TEST_P(Scanners, KnowContractions) {
  for (const char* text :
       {"it's", "IT'S", "we'll", "we'Ll", "'re 'VE 'm 'D 't", "it'\u017F", "'x", "a'", "l'l", "'r'v"}) {
    EXPECT_EQ(scanned(text), matched(text)) << text;
  }
}

std::string name_of(const testing::TestParamInfo<std::string_view>& info) {
  const char* names[] = {"gpt2", "llama3", "qwen2", "qwen35", "tekken", "o200k"};
  return names[info.index];
}

INSTANTIATE_TEST_SUITE_P(All, Scanners,
                         testing::Values(kGpt2Pattern, kLlama3Pattern, kQwen2Pattern, kQwen35Pattern,
                                         kTekkenPattern, kO200kPattern),
                         name_of);

TEST(ScannersByName, OtherPatternsHaveNone) { EXPECT_EQ(find_scanner(R"(\p{L}+)"), nullptr); }

}  // namespace
}  // namespace llamita
