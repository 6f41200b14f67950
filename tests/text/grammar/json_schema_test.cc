// Each keyword of JSON Schema lets through what it should and nothing else.
#include "text/grammar/json_schema.h"

#include <gtest/gtest.h>

#include <ctime>
#include <string>

#include "support/expect_error.h"
#include "text/grammar/grammar_support.h"

namespace llamita {
namespace {

using grammar::json_schema_grammar;
using test::schema_matches;

TEST(JsonSchema, Scalars) {
  EXPECT_TRUE(schema_matches(R"({"type":"integer"})", "-12"));
  EXPECT_FALSE(schema_matches(R"({"type":"integer"})", "1.5"));
  EXPECT_FALSE(schema_matches(R"({"type":"integer"})", "012"));
  EXPECT_TRUE(schema_matches(R"({"type":"number"})", "-0.5e-3"));
  EXPECT_TRUE(schema_matches(R"({"type":"boolean"})", "false"));
  EXPECT_TRUE(schema_matches(R"({"type":["string","null"]})", "null"));
  EXPECT_TRUE(schema_matches(R"({"type":["string","null"]})", R"("a\"\u00e9é\ud83d\ude00")"));
  EXPECT_FALSE(schema_matches(R"({"type":"string"})", R"("\ud83d")"));
  EXPECT_FALSE(schema_matches(R"({"type":"string"})", "\"\n\""));
}

TEST(JsonSchema, ObjectsKeepOrderAndRequired) {
  constexpr auto kSchema =
      R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"},"c":{}},"required":["b"]})";
  EXPECT_TRUE(schema_matches(kSchema, R"({"a":1,"b":"x","c":[1,{"d":null}]})"));
  EXPECT_TRUE(schema_matches(kSchema, R"({"b": "x", "c": 2})"));
  EXPECT_TRUE(schema_matches(kSchema, R"({"b":""})"));
  EXPECT_FALSE(schema_matches(kSchema, R"({"a":1})"));
  EXPECT_FALSE(schema_matches(kSchema, R"({})"));
  EXPECT_FALSE(schema_matches(kSchema, R"({"b":"x","a":1})"));
  EXPECT_FALSE(schema_matches(kSchema, R"({"b":"x","d":1})"));
  EXPECT_FALSE(schema_matches(kSchema, R"({"b":"x",})"));
}

TEST(JsonSchema, OtherPropertiesNeverRepeatListedOnes) {
  constexpr auto kSchema =
      R"({"properties":{"a":{"type":"integer"}},"additionalProperties":{"type":"boolean"},"type":"object"})";
  EXPECT_TRUE(schema_matches(kSchema, R"({"a":1,"ab":true,"":false})"));
  EXPECT_TRUE(schema_matches(kSchema, R"({"b":true})"));
  EXPECT_FALSE(schema_matches(kSchema, R"({"b":true,"a":true})"));
  EXPECT_FALSE(schema_matches(kSchema, R"({"b":true,"\u0061":true})"));
  EXPECT_FALSE(schema_matches(kSchema, R"({"b":1})"));
}

TEST(JsonSchema, ArraysCount) {
  constexpr auto kSchema = R"({"type":"array","items":{"type":"integer"},"minItems":2,"maxItems":3})";
  EXPECT_FALSE(schema_matches(kSchema, "[1]"));
  EXPECT_TRUE(schema_matches(kSchema, "[1,2]"));
  EXPECT_TRUE(schema_matches(kSchema, "[1, 2, 3]"));
  EXPECT_FALSE(schema_matches(kSchema, "[1,2,3,4]"));
  constexpr auto kTuple = R"({"prefixItems":[{"type":"integer"},{"type":"string"}],"items":false})";
  EXPECT_TRUE(schema_matches(kTuple, "[]"));
  EXPECT_TRUE(schema_matches(kTuple, R"([1,"a"])"));
  EXPECT_FALSE(schema_matches(kTuple, R"([1,"a",2])"));
  EXPECT_FALSE(schema_matches(kTuple, R"(["a"])"));
}

TEST(JsonSchema, StringLengthsCountCharacters) {
  constexpr auto kSchema = R"({"type":"string","minLength":2,"maxLength":300})";
  EXPECT_FALSE(schema_matches(kSchema, R"("é")"));
  EXPECT_TRUE(schema_matches(kSchema, R"("éa")"));
  EXPECT_TRUE(schema_matches(kSchema, R"("\n\ud83d\ude00")"));
  EXPECT_TRUE(schema_matches(kSchema, '"' + std::string(300, 'a') + '"'));
  EXPECT_FALSE(schema_matches(kSchema, '"' + std::string(301, 'a') + '"'));
}

TEST(JsonSchema, Patterns) {
  EXPECT_TRUE(schema_matches(R"({"pattern":"^[A-Z]{2}-\\d+$"})", R"("AB-12")"));
  EXPECT_FALSE(schema_matches(R"({"pattern":"^[A-Z]{2}-\\d+$"})", R"("AB-")"));
  EXPECT_TRUE(schema_matches(R"({"pattern":"b+"})", R"("aabbc")"));
  EXPECT_FALSE(schema_matches(R"({"pattern":"b+"})", R"("aac")"));
  EXPECT_TRUE(schema_matches(R"({"pattern":"^(a|\"|\\\\|\\n)*$"})", R"("a\"\\\n")"));
  EXPECT_TRUE(schema_matches(R"({"pattern":"^a*$","minLength":2,"maxLength":3})", R"("aaa")"));
  EXPECT_FALSE(schema_matches(R"({"pattern":"^a*$","minLength":2,"maxLength":3})", R"("aaaa")"));
  EXPECT_FALSE(schema_matches(R"({"pattern":"^a*$","minLength":2,"maxLength":3})", R"("a")"));
  EXPECT_ERROR(json_schema_grammar(R"({"pattern":"(?=a)b"})"), "look-around");
  EXPECT_ERROR(json_schema_grammar(R"({"pattern":"(a)\\1"})"), "'\\1' is not supported");
}

TEST(JsonSchema, Formats) {
  const auto is = [](const char* format, const char* text) {
    return schema_matches(std::string(R"({"type":"string","format":")") + format + "\"}",
                          std::string("\"") + text + '"');
  };
  EXPECT_TRUE(is("date", "2024-02-29"));
  EXPECT_FALSE(is("date", "2023-02-29"));
  EXPECT_FALSE(is("date", "1900-02-29"));
  EXPECT_TRUE(is("date", "2000-02-29"));
  EXPECT_FALSE(is("date", "2023-04-31"));
  EXPECT_TRUE(is("date-time", "2023-04-30T23:59:59.5+02:00"));
  EXPECT_FALSE(is("time", "24:00:00Z"));
  EXPECT_TRUE(is("uuid", "123e4567-e89b-12d3-a456-426614174000"));
  EXPECT_TRUE(is("email", "a.b@example.org"));
  EXPECT_TRUE(is("ipv4", "192.168.0.255"));
  EXPECT_FALSE(is("ipv4", "192.168.0.256"));
  EXPECT_TRUE(is("ipv6", "::1"));
  EXPECT_TRUE(is("duration", "P1DT2H"));
  EXPECT_FALSE(is("duration", "P"));
  EXPECT_TRUE(is("uri", "https://example.org/a?b=c"));
  EXPECT_TRUE(is("hostname", "a-b.example"));
  EXPECT_ERROR(json_schema_grammar(R"({"format":"zip"})"), "known are date");
}

TEST(JsonSchema, NumberBounds) {
  constexpr auto kInteger = R"({"type":"integer","minimum":-12,"exclusiveMaximum":105})";
  for (int i = -150; i < 1200; ++i)
    EXPECT_EQ(schema_matches(kInteger, std::to_string(i)), i >= -12 && i < 105) << i;
  constexpr auto kNumber = R"({"type":"number","minimum":-0.25,"maximum":1.5})";
  for (const char* text : {"-0.25", "-0.1", "0", "0.0", "1", "1.5", "1.50", "1.499", "0.999"}) {
    EXPECT_TRUE(schema_matches(kNumber, text)) << text;
  }
  for (const char* text : {"-0.26", "-1", "1.51", "2", "10", "1.500001", "-0.2500001", "1e0"}) {
    EXPECT_FALSE(schema_matches(kNumber, text)) << text;
  }
  EXPECT_FALSE(schema_matches(R"({"type":"number","exclusiveMinimum":0})", "0.000"));
  EXPECT_TRUE(schema_matches(R"({"type":"number","exclusiveMinimum":0})", "0.001"));
  EXPECT_ERROR(json_schema_grammar(R"({"type":"integer","minimum":5,"maximum":4})"), "matches no text");
}

TEST(JsonSchema, ValuesAndChoices) {
  EXPECT_TRUE(schema_matches(R"({"enum":["a",1,null,{"x":[1]}]})", R"({"x":[1]})"));
  EXPECT_FALSE(schema_matches(R"({"enum":["a",1],"type":"string"})", "1"));
  EXPECT_TRUE(schema_matches(R"({"const":"é\n"})", R"("é\n")"));
  EXPECT_TRUE(schema_matches(R"({"anyOf":[{"type":"integer"},{"type":"boolean"}]})", "true"));
  EXPECT_TRUE(schema_matches(R"({"oneOf":[{"type":"integer"},{"type":"boolean"}]})", "7"));
  EXPECT_ERROR(json_schema_grammar(R"({"oneOf":[{"type":"integer"},{"type":"number"}]})"), "may both match");
  constexpr auto kTagged = R"({"oneOf":[
    {"type":"object","properties":{"kind":{"const":"a"},"x":{"type":"integer"}},"required":["kind","x"]},
    {"type":"object","properties":{"kind":{"const":"b"}},"required":["kind"]}]})";
  EXPECT_TRUE(schema_matches(kTagged, R"({"kind":"a","x":1})"));
  EXPECT_FALSE(schema_matches(kTagged, R"({"kind":"b","x":1})"));
}

TEST(JsonSchema, AllOfMerges) {
  constexpr auto kSchema =
      R"({"allOf":[{"$ref":"#/$defs/base"},{"properties":{"b":{"maximum":5}},"required":["b"]}],
    "$defs":{"base":{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"integer","minimum":3}}}}})";
  EXPECT_TRUE(schema_matches(kSchema, R"({"a":"","b":4})"));
  EXPECT_FALSE(schema_matches(kSchema, R"({"a":"","b":6})"));
  EXPECT_FALSE(schema_matches(kSchema, R"({"a":""})"));
}

TEST(JsonSchema, Recursion) {
  constexpr auto kTree = R"({"$ref":"#/$defs/node","$defs":{"node":{"type":"object","properties":{
    "v":{"type":"integer"},"next":{"anyOf":[{"$ref":"#/$defs/node"},{"type":"null"}]}},"required":["v","next"]}}})";
  EXPECT_TRUE(schema_matches(kTree, R"({"v":1,"next":{"v":2,"next":null}})"));
  EXPECT_FALSE(schema_matches(kTree, R"({"v":1,"next":{"v":2}})"));
  EXPECT_ERROR(json_schema_grammar(R"({"$ref":"#"})"), "refers to itself");
  EXPECT_ERROR(json_schema_grammar(R"({"allOf":[{"$ref":"#"},{"type":"object"}]})"), "circles");
  EXPECT_ERROR(json_schema_grammar(R"({"anyOf":[{"$ref":"#"},{"type":"null"}]})"), "refers to itself");
  EXPECT_ERROR(json_schema_grammar(R"({"properties":{"a":{"$ref":"#"}},"required":["a"]})"),
               "never come to an end");
  EXPECT_ERROR(json_schema_grammar(R"({"$ref":"#/$defs/x"})"), "leads nowhere");
}

TEST(JsonSchema, UnknownKeywordsAreNamed) {
  for (const char* keyword :
       {"not", "if", "patternProperties", "contains", "multipleOf", "unevaluatedProperties"}) {
    EXPECT_ERROR(json_schema_grammar(std::string("{\"") + keyword + "\":{}}"), keyword);
  }
  EXPECT_TRUE(schema_matches(R"({"title":"t","description":"d","default":1,"type":"null"})", "null"));
}

// What the server promises of a schema's compilation, which is bounded in steps.
#ifdef LLAMITA_SANITIZED
constexpr double kMostSeconds = 20;
#else
constexpr double kMostSeconds = 2;
#endif

TEST(JsonSchema, HostileSchemasFailQuickly) {
  const auto refuse = [](const std::string& schema) {
    const std::clock_t start = std::clock();  // processor time, which neighbours do not add to
    EXPECT_ERROR(json_schema_grammar(schema), "");
    const double took = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    EXPECT_LT(took, kMostSeconds) << schema.substr(0, 80);
  };
  std::string deep;
  for (int i = 0; i < 100; ++i) deep += R"({"items":)";
  refuse(deep + "{}" + std::string(100, '}'));
  refuse(R"({"pattern":"(a|b)*a(a|b){40}"})");
  refuse(R"({"pattern":"^a*$","minLength":1000,"maxLength":100000})");
  refuse("{\"enum\":[" + std::string(70000, ' ') + "1]}");
  std::string tangle = R"({"$ref":"#/$defs/a0","$defs":{)";
  for (int i = 0; i < 30; ++i) {
    const auto next = std::to_string((i + 1) % 30);
    tangle += "\"a" + std::to_string(i) + R"(":{"allOf":[{"$ref":"#/$defs/a)" + next +
              R"("},{"$ref":"#/$defs/a)" + next + "\"}]},";
  }
  tangle.back() = '}';
  refuse(tangle + "}");
}

TEST(JsonSchema, LayoutsBoundWhiteSpace) {
  constexpr auto kSchema = R"({"type":"object"})";
  EXPECT_TRUE(test::matches(json_schema_grammar(kSchema, grammar::Layout::free),
                            "{\n  \"a\" : [\n    1,\n    2\n  ]\n}"));
  EXPECT_FALSE(test::matches(json_schema_grammar(kSchema, grammar::Layout::free), "{\n\n\n}"));
  EXPECT_FALSE(test::matches(json_schema_grammar(kSchema, grammar::Layout::compact), R"({"a": 1})"));
  EXPECT_FALSE(test::matches(json_schema_grammar(kSchema), R"({"a":  1})"));
}

}  // namespace
}  // namespace llamita
