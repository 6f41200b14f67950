// A Matcher's masks, steps back and forced bytes, against trying every token by hand.
#include "text/grammar/matcher.h"

#include <gtest/gtest.h>
#include <time.h>

#include <chrono>
#include <iostream>
#include <random>
#include <string>

#include "base/cat.h"
#include "support/expect_error.h"
#include "text/grammar/grammar_support.h"
#include "text/tokenizer_golden.h"

namespace llamita {
namespace {

using grammar::json_object_grammar;
using grammar::json_schema_grammar;
using grammar::Layout;
using grammar::MaskCache;
using grammar::Matcher;
using grammar::parse_gbnf;
using grammar::TokenTrie;

const char* const kSchemas[] = {
    R"({"type":"object"})",
    R"({"type":"object","properties":{"name":{"type":"string","maxLength":9},"age":{"type":"integer","minimum":0,"maximum":150}},
      "required":["name","age"]})",
    R"({"type":"array","items":{"anyOf":[{"type":"string","maxLength":200},{"type":"number"},{"$ref":"#"}]},"maxItems":200})",
    R"({"type":"object","properties":{"a":{"enum":["x","xy","xyz"]},"b":{"type":"string","pattern":"^[a-zé]{2,200}$"}},
      "additionalProperties":{"type":"boolean"}})",
};

// The mask that trying each token gives.
std::vector<uint32_t> tried_mask(Matcher& matcher, const TokenTrie& trie) {
  std::vector<uint32_t> mask(matcher.mask_words());
  for (int32_t id = 0; id < trie.vocab_size(); ++id) {
    if (!matcher.accept(id)) continue;
    mask[size_t(id) / 32] |= uint32_t{1} << (id % 32);
    EXPECT_TRUE(matcher.rollback(1));
  }
  return mask;
}

void expect_masks_are_right(const std::shared_ptr<const grammar::Grammar>& grammar,
                            const std::shared_ptr<const TokenTrie>& trie, uint64_t seed) {
  const auto masks = std::make_shared<MaskCache>(grammar, trie);
  Matcher matcher(masks);
  std::mt19937_64 random(seed);
  std::vector<uint32_t> mask(matcher.mask_words());
  for (int step = 0; step < 60 && !matcher.is_finished(); ++step) {
    const size_t allowed = matcher.fill_mask(mask);
    if (allowed == 0) {  // a vocabulary without a token that says so
      EXPECT_TRUE(trie->stops().empty());
      EXPECT_TRUE(matcher.is_complete());
      return;
    }
    ASSERT_EQ(mask, tried_mask(matcher, *trie)) << "step " << step;
    auto pick = static_cast<size_t>(random() % allowed);
    int32_t token = 0;
    for (;; ++token) {
      if ((mask[size_t(token) / 32] >> (token % 32) & 1) != 0 && pick-- == 0) break;
    }
    ASSERT_TRUE(matcher.accept(token));
  }
}

TEST(Matcher, MasksAreWhatTryingEachTokenGives) {
  for (const char* schema : kSchemas) {
    for (uint64_t seed = 0; seed < 8; ++seed) {
      SCOPED_TRACE(schema);
      expect_masks_are_right(json_schema_grammar(schema), test::synthetic_trie(), seed);
    }
  }
  expect_masks_are_right(parse_gbnf("root ::= (\"a\" | \"ab\" | .){1,3000}"), test::synthetic_trie(), 1);
  expect_masks_are_right(parse_gbnf("root ::= \"[\" root \"]\" | [0-9]+"), test::synthetic_trie(), 2);
}

TEST(Matcher, MasksAreRightAtTheDeepestLevel) {
  Matcher matcher(std::make_shared<MaskCache>(grammar::json_value_grammar(), test::synthetic_trie()));
  int depth = 0;
  while (matcher.accept_bytes("[")) ++depth;
  EXPECT_EQ(depth, grammar::kMaxLevels);
  std::vector<uint32_t> mask(matcher.mask_words());
  for (int back = 0; back < 4; ++back) {
    EXPECT_GT(matcher.fill_mask(mask), 0u);
    EXPECT_EQ(mask, tried_mask(matcher, *test::synthetic_trie()));
    EXPECT_TRUE(matcher.rollback(1));
  }
}

TEST(Matcher, RollbackIsReplay) {
  const auto trie = test::synthetic_trie();
  for (const char* schema : kSchemas) {
    const auto masks = std::make_shared<MaskCache>(json_schema_grammar(schema), trie);
    std::mt19937_64 random(7);
    Matcher wandering(masks);
    std::vector<int32_t> tokens;
    std::vector<uint32_t> mask(wandering.mask_words()), replayed(mask);
    for (int step = 0; step < 300; ++step) {
      if (!tokens.empty() && random() % 4 == 0) {
        const size_t n = 1 + random() % std::min<size_t>(tokens.size(), 5);
        ASSERT_TRUE(wandering.rollback(n));
        tokens.resize(tokens.size() - n);
      } else {
        const auto token = static_cast<int32_t>(random() % static_cast<uint64_t>(trie->vocab_size()));
        if (wandering.accept(token)) tokens.push_back(token);
      }
      if (step % 10 != 0) continue;
      Matcher straight(masks);
      for (const int32_t token : tokens) ASSERT_TRUE(straight.accept(token));
      wandering.fill_mask(mask);
      straight.fill_mask(replayed);
      ASSERT_EQ(mask, replayed);
      ASSERT_EQ(wandering.is_complete(), straight.is_complete());
    }
    EXPECT_FALSE(wandering.rollback(tokens.size() + 1));
  }
}

TEST(Matcher, ForcedBytesAreTheOnlyWay) {
  auto matcher = test::matcher_of(json_schema_grammar(
      R"({"type":"object","properties":{"city":{"enum":["Par\u00eds","Parma"]}},"required":["city"]})",
      Layout::compact));
  EXPECT_EQ(matcher.forced_bytes(), R"({"city":"Par)");
  EXPECT_TRUE(matcher.accept_bytes(matcher.forced_bytes()));
  EXPECT_EQ(matcher.forced_bytes(), "");
  EXPECT_TRUE(matcher.accept_bytes("m"));
  EXPECT_EQ(matcher.forced_bytes(), "a\"}");
  EXPECT_TRUE(matcher.accept_bytes("a\"}"));
  EXPECT_EQ(matcher.forced_bytes(), "");
}

TEST(Matcher, StopTokensExactlyWhenComplete) {
  const auto trie = test::synthetic_trie();
  auto matcher = test::matcher_of(parse_gbnf("root ::= \"a\" \"b\"?"));
  std::vector<uint32_t> mask(matcher.mask_words() + 2, ~0u);
  const int32_t stop = trie->stops()[0];
  EXPECT_EQ(matcher.fill_mask(mask), 1u);
  EXPECT_EQ(mask.back(), 0u);
  EXPECT_FALSE(matcher.accept(stop));
  EXPECT_TRUE(matcher.accept('a'));
  EXPECT_EQ(matcher.fill_mask(mask), 2u);
  EXPECT_TRUE(matcher.accept(stop));
  EXPECT_TRUE(matcher.is_finished());
  EXPECT_EQ(matcher.fill_mask(mask), 0u);
  EXPECT_FALSE(matcher.accept('b'));
  EXPECT_TRUE(matcher.rollback(1));
  EXPECT_TRUE(matcher.accept('b'));
}

TEST(Matcher, LongTextsStayBoundedAndCanBeRolledBack) {
  auto matcher = test::matcher_of(parse_gbnf("root ::= ([a-z]{50000} \"!\"){3}"));
  std::string text;
  for (int i = 0; i < 120000; ++i) {
    const char c = i % 50001 == 50000 ? '!' : static_cast<char>('a' + i % 26);
    ASSERT_TRUE(matcher.accept_bytes({&c, 1})) << i;
  }
  EXPECT_GE(matcher.steps(), Matcher::kHistory);
  EXPECT_TRUE(matcher.rollback(Matcher::kHistory));
  EXPECT_TRUE(matcher.accept_bytes("a"));
}

// 256 bytes and 20,000 words, so that a walk over it is work.
std::shared_ptr<const TokenTrie> large_trie() {
  static const auto trie = [] {
    std::vector<std::string> bytes;
    for (int byte = 0; byte < 256; ++byte) bytes.emplace_back(1, static_cast<char>(byte));
    std::mt19937_64 random(5);
    for (int i = 0; i < 20000; ++i) {
      std::string word(2 + random() % 9, ' ');
      for (char& c : word)
        c = static_cast<char>(random() % 12 == 0 ? 'a' + random() % 26 : 'a' + random() % 4);
      bytes.push_back(word);
    }
    bytes.emplace_back();
    const auto stop = static_cast<int32_t>(bytes.size()) - 1;
    return std::make_shared<const TokenTrie>(std::move(bytes), std::vector<int32_t>{stop});
  }();
  return trie;
}

double cpu_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// How one reply went that takes random tokens, the long ones first.
struct Walked {
  std::string text;
  bool too_costly = false, finished = false;
  double worst_seconds = 0;  // of a token and the mask after it
};

Walked walk(const std::shared_ptr<MaskCache>& masks, uint64_t seed, int tokens) {
  Walked out;
  const double begin = cpu_seconds();
  Matcher matcher(masks);
  std::mt19937_64 random(seed);
  std::vector<uint32_t> mask(matcher.mask_words());
  matcher.fill_mask(mask);
  out.worst_seconds = cpu_seconds() - begin;
  for (int step = 0; step < tokens && !matcher.is_finished() && !matcher.is_too_costly(); ++step) {
    std::vector<int32_t> allowed;
    for (int32_t id = 0; id < masks->trie().vocab_size(); ++id) {
      if ((mask[size_t(id) / 32] >> (id % 32) & 1) != 0) allowed.push_back(id);
    }
    if (allowed.empty()) break;
    const int32_t token = allowed[random() % allowed.size()];
    const double before = cpu_seconds();
    if (!matcher.accept(token)) break;
    matcher.fill_mask(mask);
    out.worst_seconds = std::max(out.worst_seconds, cpu_seconds() - before);
    out.text += masks->trie().bytes(token);
  }
  out.too_costly = matcher.is_too_costly();
  if (out.too_costly) {
    EXPECT_EQ(matcher.fill_mask(mask), 0u);
    EXPECT_FALSE(matcher.accept_bytes("a"));
  }
  out.finished = matcher.is_finished();
  return out;
}

std::string many_patterns(int count) {
  std::string options;
  for (int i = 0; i < count; ++i) {
    options +=
        cat(i == 0 ? "" : ",", R"({"type":"string","pattern":"^[a-z]{)", 1 + i % 7, "}-", i, R"([a-f]*$"})");
  }
  return cat(R"({"anyOf":[)", options, "]}");
}

TEST(Matcher, AlternativesInHundredsAreNoTrouble) {
  expect_masks_are_right(json_schema_grammar(many_patterns(40)), test::synthetic_trie(), 1);
  const auto masks = std::make_shared<MaskCache>(json_schema_grammar(many_patterns(200)), large_trie());
  for (uint64_t seed = 0; seed < 10; ++seed) {
    const Walked walked = walk(masks, seed, 400);
    EXPECT_FALSE(walked.too_costly) << walked.text;
#ifndef LLAMITA_SANITIZED
    EXPECT_LT(walked.worst_seconds, 0.1) << walked.text;
#endif
  }
}

// Each reads what was written in more ways than can be followed. None may hold up who waits for the mask.
TEST(Matcher, AHostileGrammarEndsItsReplyWithinItsWork) {
  std::string words = "root ::= \"<\" item{2000}\nitem ::= [a-z] ";
  for (int i = 0; i < 60; ++i) {
    words += cat("| \"", std::string(1, static_cast<char>('a' + i % 4)), "\" [a-z]{", 20 + i, ",",
                 200 + 3 * i, "} ");
  }
  const std::string hostile[] = {
      words,
      "root ::= \"<\" (([a-c]{1,60} | [b-d]{1,70}){1,80} \"d\"?){1,90} \"!\"",
      "root ::= x{900}\nx ::= [a-d] y{0,250}\ny ::= [a-c]{1,200} [b-d]{0,200}",
  };
  for (const std::string& text : hostile) {
    SCOPED_TRACE(text.substr(0, 100));
    const auto grammar = parse_gbnf(text);
    const auto masks = std::make_shared<MaskCache>(grammar, large_trie());
    const Walked cold = walk(masks, 3, 3000);
    EXPECT_TRUE(cold.too_costly) << cold.text.size();
    const Walked warm = walk(masks, 3, 3000);
    EXPECT_EQ(cold.text, warm.text) << "what others did must not decide where a reply ends";
#ifndef LLAMITA_SANITIZED
    EXPECT_LT(cold.worst_seconds, 0.1);
#endif
  }
}

TEST(TokenTrie, GoldenTokenizersGiveJson) {
  for (const std::string& name : test::golden_names()) {
    const auto tokenizer = test::golden_tokenizer(name);
    const auto trie = std::make_shared<const TokenTrie>(*tokenizer);
    if (!trie->spells_everything()) continue;
    expect_masks_are_right(json_schema_grammar(kSchemas[1]), trie, 3);
  }
}

TEST(TokenTrie, RefusesStopsOutsideTheVocabulary) { EXPECT_ERROR(TokenTrie({"a"}, {1}), "stop token 1"); }

}  // namespace
}  // namespace llamita
