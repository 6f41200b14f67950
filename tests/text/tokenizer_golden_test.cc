// Every golden tokenizer against what Hugging Face's tokenizers made of the same strings.
#include "text/tokenizer_golden.h"

#include <gtest/gtest.h>

#include "text/detokenizer.h"
#include "text/unicode.h"

namespace llamita {
namespace {

using test::from_hex;
using test::ids_from;

class TokenizerGolden : public testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Tokenizer> tokenizer_ = test::golden_tokenizer(GetParam());

  void expect_decoded(const std::vector<int32_t>& ids, const std::string& whole, const std::string& plain) {
    const std::string without_controls = from_hex(plain == "=" ? whole : plain);
    EXPECT_EQ(tokenizer_->decode(ids, false), from_hex(whole));
    EXPECT_EQ(tokenizer_->decode(ids, true), without_controls);
    Detokenizer detokenizer(*tokenizer_);
    std::string streamed;
    for (const int32_t id : ids) {
      const std::string part = detokenizer.push(id);
      EXPECT_TRUE(unicode::is_valid(part)) << "a character came in parts";
      streamed += part;
    }
    EXPECT_EQ(streamed + detokenizer.finish(), without_controls);
  }
};

TEST_P(TokenizerGolden, GivesTheReferencesIdsForTrustedText) {
  for (const auto& fields : test::table(GetParam() + "/cases.tsv")) {
    EXPECT_EQ(tokenizer_->encode(from_hex(fields[0]), true, true), ids_from(fields[1])) << fields[0];
  }
}

TEST_P(TokenizerGolden, GivesTheReferencesIdsForUntrustedText) {
  for (const auto& fields : test::table(GetParam() + "/cases.tsv")) {
    const std::string text = from_hex(fields[0]);
    const auto expected = fields[2] == "=" ? tokenizer_->encode(text, false, true) : ids_from(fields[2]);
    EXPECT_EQ(tokenizer_->encode(text, false, false), expected) << fields[0];
  }
}

TEST_P(TokenizerGolden, DecodesAndStreamsItsIds) {
  for (const auto& fields : test::table(GetParam() + "/cases.tsv")) {
    expect_decoded(ids_from(fields[1]), fields[3], fields[4]);
  }
}

TEST_P(TokenizerGolden, DecodesAndStreamsAnyIds) {
  for (const auto& fields : test::table(GetParam() + "/decode.tsv")) {
    expect_decoded(ids_from(fields[0]), fields[1], fields[2]);
  }
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerGolden, testing::ValuesIn(test::golden_names()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace llamita
