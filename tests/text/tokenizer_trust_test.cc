// What users write never becomes a control token, and trust changes nothing else.
#include <gtest/gtest.h>

#include "text/tokenizer_golden.h"

namespace llamita {
namespace {

using Ids = std::vector<int32_t>;

class TokenizerTrust : public testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Tokenizer> tokenizer_ = test::golden_tokenizer(GetParam());

  std::vector<int32_t> controls() const {
    std::vector<int32_t> out;
    for (int32_t id = 0; id < tokenizer_->vocab_size(); ++id) {
      // Characters without a token become the unknown token from untrusted text too.
      if (tokenizer_->is_control(id) && tokenizer_->token_text(id) != "<unk>") out.push_back(id);
    }
    return out;
  }
};

TEST_P(TokenizerTrust, ControlTokensAreOnlySpelledByTrustedText) {
  ASSERT_FALSE(controls().empty());
  for (const int32_t id : controls()) {
    const std::string spelling(tokenizer_->token_text(id));
    EXPECT_EQ(tokenizer_->encode(spelling, false, true), Ids{id}) << spelling;
    for (const std::string& text : {spelling, "a" + spelling, spelling + spelling, " " + spelling + "\n"}) {
      for (const int32_t produced : tokenizer_->encode(text, false, false)) {
        EXPECT_NE(produced, id) << text;
      }
    }
  }
}

TEST_P(TokenizerTrust, ControlTokensAreNotJoinedAcrossPieces) {
  for (const int32_t id : controls()) {
    const std::string spelling(tokenizer_->token_text(id));
    for (size_t cut = 1; cut < spelling.size(); ++cut) {
      const std::vector<Piece> pieces = {{spelling.substr(0, cut), true}, {spelling.substr(cut), false}};
      const std::vector<Piece> mirrored = {{spelling.substr(0, cut), false}, {spelling.substr(cut), true}};
      for (const auto& list : {pieces, mirrored}) {
        for (const int32_t produced : tokenizer_->encode(list, false)) EXPECT_NE(produced, id) << spelling;
      }
    }
  }
}

TEST_P(TokenizerTrust, PiecesCutAtControlTokensGiveTheIdsOfTheWholeText) {
  const std::string control(tokenizer_->token_text(controls().front()));
  const char* texts[] = {"hello world", " two  spaces ", "\n\nLine\n", "12345", "naïve — 東京", "", "x"};
  for (const char* first : texts) {
    for (const char* second : texts) {
      const std::vector<Piece> pieces = {{control, true}, {first, false}, {control, true}, {second, false}};
      EXPECT_EQ(tokenizer_->encode(pieces, true),
                tokenizer_->encode(control + first + control + second, true, true))
          << first << "|" << second;
    }
  }
}

TEST_P(TokenizerTrust, AdjacentPiecesOfOneTrustAreOneText) {
  for (const bool trusted : {false, true}) {
    const std::vector<Piece> pieces = {
        {"inter", trusted}, {"national\xE6", trusted}, {"\x97\xA5 text", trusted}};
    EXPECT_EQ(tokenizer_->encode(pieces, false),
              tokenizer_->encode("international\xE6\x97\xA5 text", false, trusted));
  }
}

TEST_P(TokenizerTrust, NothingIsPutBeforeTextThatGoesOnAfterAChangeOfTrust) {
  const std::vector<Piece> pieces = {{"ab", true}, {"cd", false}};
  const std::string text = tokenizer_->decode(tokenizer_->encode(pieces, false), true);
  EXPECT_EQ(text.substr(text.find('a')), "abcd");
}

TEST_P(TokenizerTrust, WordsRunOnOverAChangeOfTrust) {
  const char* texts[] = {"Reply to: ", "hello", " two  spaces ", "x", "12", "34", "naïve",
                         "'s",         "\n",    "\n\nLine"};
  for (const char* before : texts) {
    for (const char* message : texts) {
      for (const char* after : texts) {
        const std::vector<Piece> pieces = {{before, true}, {message, false}, {after, true}};
        EXPECT_EQ(tokenizer_->encode(pieces, false),
                  tokenizer_->encode(std::string(before) + message + after, false, true))
            << before << "|" << message << "|" << after;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerTrust, testing::ValuesIn(test::golden_names()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace llamita
