// GBNF texts mean what the notation says, and broken or hostile ones are errors that name the place.
#include <gtest/gtest.h>

#include <string>

#include "support/expect_error.h"
#include "text/grammar/grammar_support.h"

namespace llamita {
namespace {

using grammar::parse_gbnf;
using test::gbnf_matches;

TEST(Gbnf, LiteralsAndAlternatives) {
  constexpr auto kYesNo = R"(root ::= "yes" | "no" | "")";
  EXPECT_TRUE(gbnf_matches(kYesNo, "yes"));
  EXPECT_TRUE(gbnf_matches(kYesNo, "no"));
  EXPECT_TRUE(gbnf_matches(kYesNo, ""));
  EXPECT_FALSE(gbnf_matches(kYesNo, "yesno"));
  EXPECT_FALSE(gbnf_matches(kYesNo, "ye"));
}

TEST(Gbnf, RepeatsOfEverySize) {
  for (const int n : {0, 1, 2, 3, 7, 500, 501, 5000, 5001}) {
    const std::string text(size_t(n), 'a');
    EXPECT_EQ(gbnf_matches("root ::= \"a\"{2,3}", text), n == 2 || n == 3) << n;
    EXPECT_EQ(gbnf_matches("root ::= \"a\"*", text), true) << n;
    EXPECT_EQ(gbnf_matches("root ::= \"a\"+", text), n > 0) << n;
    EXPECT_EQ(gbnf_matches("root ::= \"a\"?", text), n < 2) << n;
    EXPECT_EQ(gbnf_matches("root ::= \"a\"{500,5000}", text), n >= 500 && n <= 5000) << n;
    EXPECT_EQ(gbnf_matches("root ::= \"a\"{501,}", text), n >= 501) << n;
    EXPECT_EQ(gbnf_matches("root ::= \"a\"{501}", text), n == 501) << n;
  }
}

// Each text of n letters can be read with n / 2 to n rounds; all counts are followed at once.
TEST(Gbnf, AmbiguousRepeatsAreCounted) {
  for (const int n : {49, 50, 99, 100, 199, 200, 201}) {
    const std::string text(size_t(n), 'a');
    EXPECT_EQ(gbnf_matches("root ::= b{100,5000}\nb ::= \"a\" | \"a\" \"a\"", text), n >= 100) << n;
    EXPECT_EQ(gbnf_matches("root ::= b{50,100}\nb ::= \"a\" | \"a\" \"a\"", text), n >= 50 && n <= 200) << n;
  }
}

TEST(Gbnf, RepeatsOfRepeatsStaySmall) {
  const std::string pluses(40, '+'), stars(40, '*');
  for (const char* operators : {"+", "*", "+*", "*+", "?*", "++*", "?+"}) {
    const std::string grammar = std::string("root ::= \"a\"") + operators;
    EXPECT_EQ(gbnf_matches(grammar, ""), grammar.find_first_of("*?") != std::string::npos) << grammar;
    EXPECT_TRUE(gbnf_matches(grammar, "aaa")) << grammar;
  }
  EXPECT_TRUE(gbnf_matches("root ::= \"a\"" + pluses, "aa"));
  EXPECT_FALSE(gbnf_matches("root ::= \"a\"" + pluses, ""));
  EXPECT_TRUE(gbnf_matches("root ::= \"a\"" + pluses + stars, ""));
}

TEST(Gbnf, UnicodeClassesReadWholeCharacters) {
  constexpr auto kLatin = "root ::= [à-ž\\u4e00-\\U00010FFF]+";
  EXPECT_TRUE(gbnf_matches(kLatin, "éž"));
  EXPECT_TRUE(gbnf_matches(kLatin, "日本"));
  EXPECT_TRUE(gbnf_matches(kLatin, "\U00010000"));
  EXPECT_FALSE(gbnf_matches(kLatin, "e"));
  EXPECT_FALSE(gbnf_matches(kLatin, "\xC3"));
  EXPECT_FALSE(gbnf_matches(kLatin, "\xED\xA0\x80"));  // a surrogate
  EXPECT_TRUE(gbnf_matches("root ::= [^a-c]", "é"));
  EXPECT_FALSE(gbnf_matches("root ::= [^a-c]", "b"));
  EXPECT_TRUE(gbnf_matches("root ::= . .", "é\n"));
}

TEST(Gbnf, CommentsGroupsAndLineEnds) {
  constexpr auto kList = R"(
# a list
root ::= "[" ( item
               ("," item)*   # more
             )? "]"
item ::= [0-9]+
       | root
)";
  EXPECT_TRUE(gbnf_matches(kList, "[1,[2,[]],33]"));
  EXPECT_FALSE(gbnf_matches(kList, "[1,]"));
}

TEST(Gbnf, NestingEndsInTime) {
  const auto grammar = parse_gbnf(R"x(root ::= "(" root ")" | "x")x");
  auto matcher = test::matcher_of(grammar);
  int depth = 0;
  while (matcher.accept_bytes("(")) ++depth;
  EXPECT_GE(depth, grammar::kMaxLevels - 2);
  EXPECT_LE(depth, grammar::kMaxLevels);
  EXPECT_TRUE(matcher.accept_bytes("x" + std::string(size_t(depth), ')')));
  EXPECT_TRUE(matcher.is_complete());
  // What calls itself last needs no depth.
  EXPECT_TRUE(gbnf_matches(R"(root ::= "a" root | "b")", std::string(10000, 'a') + "b"));
}

TEST(Gbnf, LeftRecursionIsAnError) {
  EXPECT_ERROR(parse_gbnf(R"(root ::= root "a" | "b")"), "refers to itself before it has read anything");
  EXPECT_ERROR(parse_gbnf("root ::= a\na ::= b \"x\"\nb ::= c? a | \"y\"\nc ::= \"z\""), "refers to itself");
  EXPECT_ERROR(parse_gbnf("root ::= s* root \"x\" | \"y\"\ns ::= \" \""), "refers to itself");
}

TEST(Gbnf, WhatNeverEndsIsAnError) {
  EXPECT_ERROR(parse_gbnf(R"(root ::= "a" root)"), "never come to an end");
  EXPECT_ERROR(parse_gbnf("root ::= []"), "matches no text");
}

TEST(Gbnf, BrokenTextsNameTheLine) {
  EXPECT_ERROR(parse_gbnf("root ::= \"a\"\nroot ::= \"b\""), "line 2");
  EXPECT_ERROR(parse_gbnf("root ::= a"), "'a' is used here and defined nowhere");
  EXPECT_ERROR(parse_gbnf("a ::= \"a\""), "no rule 'root'");
  EXPECT_ERROR(parse_gbnf("root ::= \"a"), "no '\"' at its end");
  EXPECT_ERROR(parse_gbnf("root ::= [a"), "no ']' at its end");
  EXPECT_ERROR(parse_gbnf("root ::= [b-a]"), "ends before it begins");
  EXPECT_ERROR(parse_gbnf("root ::= \"a\"{3,2}"), "impossible");
  EXPECT_ERROR(parse_gbnf("root ::= (\"a\""), "expected ')'");
  EXPECT_ERROR(parse_gbnf("root ::= \"\\q\""), "escape");
  EXPECT_ERROR(parse_gbnf("root ::= \"\xff\""), "UTF-8");
  EXPECT_ERROR(parse_gbnf("root := \"a\""), "::=");
}

TEST(Gbnf, HostileTextsAreErrors) {
  EXPECT_ERROR(parse_gbnf("root ::= " + std::string(1000, '(')), "nested deeper");
  EXPECT_ERROR(parse_gbnf("root ::= [ab]* \"a\" " + std::string("[ab]{60}")), "more work");
  EXPECT_ERROR(parse_gbnf("root ::= \"a\"" + std::string(3000, '?')), "expressions deeper");
  EXPECT_ERROR(parse_gbnf("root ::= (\"a\"?){1000}"), "may be empty");
  EXPECT_ERROR(parse_gbnf(std::string(100000, ' ')), "bytes");
}

}  // namespace
}  // namespace llamita
