// JSON from untrusted files: what RFC 8259 allows is read exactly, all else is an Error with its offset, and
// no input costs more than the limits.
#include "formats/json.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "base/timer.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace llamita {
namespace {

Json parse(std::string_view text) { return Json::parse(text, "a.json"); }

bool is_refused(std::string_view text) {
  try {
    parse(text);
    return false;
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).rfind("a.json, offset ", 0), 0u) << error.what();
    return true;
  }
}

TEST(Json, EveryKindOfValue) {
  const Json json = parse(R"( { "null" : null, "yes":true, "no":false, "int":-12, "real":2.5e1, "text":"x",
                              "list":[1,[],{}], "map":{"b":1,"a":2} } )");
  EXPECT_TRUE(json.find("null")->is_null());
  EXPECT_TRUE(json.find("yes")->as_bool(""));
  EXPECT_FALSE(json.find("no")->as_bool(""));
  EXPECT_EQ(json.find("int")->as_int(""), -12);
  EXPECT_EQ(json.find("int")->as_double(""), -12.0);
  EXPECT_EQ(json.find("real")->as_double(""), 25.0);
  EXPECT_EQ(json.find("text")->as_string(""), "x");
  EXPECT_EQ(json.find("list")->as_array("").size(), 3u);
  EXPECT_EQ(json.find("map")->as_object("")[0].first, "b");
  EXPECT_EQ(json.find("map")->as_object("")[1].second.as_int(""), 2);
  EXPECT_EQ(json.find("absent"), nullptr);
  EXPECT_EQ(json.find("int")->find("absent"), nullptr);
}

TEST(Json, IntegersStayExactAndOtherNumbersAreTheNearestDouble) {
  EXPECT_EQ(parse("9223372036854775807").as_int(""), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(parse("-9223372036854775808").as_int(""), std::numeric_limits<int64_t>::min());
  EXPECT_FALSE(parse("9223372036854775808").is_integer());
  EXPECT_EQ(parse("9223372036854775808").as_double(""), 9223372036854775808.0);
  EXPECT_EQ(parse("1000000000000000019884624838656").as_double(""), 1e30);  // "no limit" in tokenizer configs
  EXPECT_EQ(parse("0.1").as_double(""), 0.1);
  EXPECT_EQ(parse("1E+2").as_double(""), 100.0);
  EXPECT_EQ(parse("1e-05").as_double(""), 1e-5);
  EXPECT_EQ(parse("5e-324").as_double(""), 5e-324);
  EXPECT_FALSE(parse("1.0").is_integer());
  EXPECT_TRUE(is_refused("1e400"));
}

TEST(Json, StringsUnescape) {
  EXPECT_EQ(parse(R"("\"\\\/\b\f\n\r\t")").as_string(""), "\"\\/\b\f\n\r\t");
  EXPECT_EQ(parse(R"("\u0041\u00e9\u20AC\ud83e\udd99")").as_string(""), "Aé€🦙");
  EXPECT_EQ(parse("\"Aé€🦙\x7f\"").as_string(""), "Aé€🦙\x7f");
  EXPECT_EQ(parse(R"("a\u0000b")").as_string(""), std::string("a\0b", 3));
  EXPECT_EQ(parse(R"("\ud7ff\ue000\uffff\udbff\udfff")").as_string(""),
            "\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\xf4\x8f\xbf\xbf");
}

TEST(Json, WhatIsNoJsonIsRefused) {
  for (const char* text : {"",
                           " ",
                           "nul",
                           "True",
                           "NaN",
                           "Infinity",
                           "-",
                           "+1",
                           "01",
                           "-01",
                           ".5",
                           "1.",
                           "1.e2",
                           "1e",
                           "1e+",
                           "0x1",
                           "1_0",
                           "--1",
                           "1 2",
                           "[",
                           "]",
                           "[1",
                           "[1,",
                           "[1,]",
                           "[,]",
                           "[1 2]",
                           "{",
                           "}",
                           "{\"a\"",
                           "{\"a\":",
                           "{\"a\":1",
                           "{\"a\":1,",
                           "{\"a\":1,}",
                           "{a:1}",
                           "{'a':1}",
                           "{\"a\" 1}",
                           "{\"a\":}",
                           "{1:2}",
                           "{,}",
                           "[1}",
                           "{\"a\":1]",
                           "\"",
                           "\"a",
                           "'a'",
                           "\"\\\"",
                           "\"\\",
                           "\"\\u\"",
                           "\"\\u12\"",
                           "\"\\u12g4\"",
                           "\"\\u+123\"",
                           "\"\\x\"",
                           "\"\n\"",
                           "\"\t\"",
                           "// a\n1",
                           "/**/1",
                           "1 //",
                           "\xef\xbb\xbf{}",
                           "[1]x",
                           "nullnull",
                           "\"a\"\"b\""}) {
    EXPECT_TRUE(is_refused(text)) << text;
  }
  EXPECT_TRUE(is_refused(std::string("1\0", 2)));
}

TEST(Json, BrokenUnicodeIsRefused) {
  for (const char* text : {"\x80",
                           "\xbf",
                           "\xc0\x80",
                           "\xc1\xbf",
                           "\xc3",
                           "\xc3(",
                           "\xe0\x9f\xbf",
                           "\xe2\x82",
                           "\xed\xa0\x80",
                           "\xed\xbf\xbf",
                           "\xf0\x8f\xbf\xbf",
                           "\xf0\x9f\xa6",
                           "\xf4\x90\x80\x80",
                           "\xf5\x80\x80\x80",
                           "\xff",
                           R"(\ud83e)",
                           R"(\ud83ex)",
                           R"(\ud83e\n)",
                           R"(\udd99)",
                           R"(\ud83e\ud83e)",
                           R"(\ud83e\u0041)"}) {
    EXPECT_TRUE(is_refused("\"" + std::string(text) + "\"")) << text;
    EXPECT_TRUE(is_refused("\"" + std::string(text))) << text;
  }
}

TEST(Json, ErrorsSayWhere) {
  EXPECT_ERROR(parse("{\"a\":1,\n\"b\":x}"), "a.json, offset 12: expected a value, found 'x'");
  EXPECT_ERROR(parse("[1,2"), "a.json, offset 4: ',' or ']' was expected");
  EXPECT_ERROR(parse("{\"a\":1,\"b\":2,\"a\":3}"), "a.json, offset 13: the key 'a' is there twice");
  EXPECT_ERROR(parse("{\"a\":{\"b\":1,\"\\u0062\":2}}"), "offset 12: the key 'b' is there twice");
  EXPECT_ERROR(parse("[\"abc]"), "offset 1: a string that does not end");
  EXPECT_ERROR(parse("{\"\\u001b[2J\":1,\"\\u001b[2J\":1}"), "the key '\\x1b[2J' is there twice");
  EXPECT_ERROR(Json::parse_file("/nowhere/config.json"), "/nowhere/config.json");
  EXPECT_ERROR(parse("[]").as_object("config.json: rope"),
               "config.json: rope should be an object but is an array");
  EXPECT_ERROR(parse("2.5").as_int("n"), "n should be an integer but is a number");
  EXPECT_ERROR(parse("null").as_string("n"), "n should be a string but is null");
}

TEST(Json, LimitsHoldExactly) {
  const auto nested = [](int depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_NO_THROW(parse(nested(63)));
  EXPECT_NO_THROW(parse(nested(64)));
  EXPECT_ERROR(parse(nested(65)), "offset 64: nested deeper than the limit of 64");
  EXPECT_ERROR(parse(std::string(1 << 20, '[')), "nested deeper");
  std::string objects;
  for (int i = 0; i < 65; ++i) objects += "{\"a\":";
  EXPECT_ERROR(parse(objects), "nested deeper");

  Json::Limits limits;
  limits.bytes = 5;
  EXPECT_NO_THROW(Json::parse("[1,2]", "b", limits));
  EXPECT_ERROR(Json::parse("[1,23]", "b", limits), "b: JSON of 6 bytes; the limit is 5");
  limits.bytes = 100;
  limits.values = 3;
  EXPECT_NO_THROW(Json::parse("[1,2,3]", "b", limits));
  EXPECT_ERROR(Json::parse("[1,2,3,4]", "b", limits), "more values than the limit of 3");
  limits.depth = 0;
  EXPECT_NO_THROW(Json::parse("1", "b", limits));
  EXPECT_ERROR(Json::parse("[]", "b", limits), "nested deeper");
}

TEST(Json, CutAnywhereItIsRefused) {
  const std::string whole = R"({"a":[1,-2.5e3,"\u00e9\n",true],"b":{"c":null,"é":{}},"d":[[],{}]})";
  EXPECT_NO_THROW(parse(whole));
  for (size_t length = 0; length < whole.size(); ++length) {
    ASSERT_TRUE(is_refused(std::string_view(whole).substr(0, length))) << length;
  }
}

TEST(Json, DumpsWhatItReads) {
  const std::string text =
      R"({"z":[1,-2.5,true,false,null,1e+300,0.1,3.0],"a":"é\"\\\n\u0001/","":{},"e":[]})";
  EXPECT_EQ(parse(text).dump(), text);
  EXPECT_EQ(parse(" [ 1 , { \"a\" : \"\\u00e9\" } ] ").dump(), R"([1,{"a":"é"}])");
  EXPECT_EQ(Json(std::numeric_limits<double>::infinity()).dump(), "null");
  EXPECT_EQ(Json().dump(), "null");
  EXPECT_EQ(Json(Json::Object{{"k", Json(int64_t{1})}}).dump(), R"({"k":1})");
}

TEST(Json, AFileIsReadWhole) {
  const test::TempDir dir;
  EXPECT_EQ(Json::parse_file(dir.write("c.json", "{\"a\":[1]}\n")).dump(), "{\"a\":[1]}");
  EXPECT_ERROR(Json::parse_file(dir.write("empty.json", "")), "empty.json, offset 0: the text ends");
}

// The shape of a tokenizer.json of a 128k vocabulary, 17 MB. A second is ten times what it takes.
TEST(Json, ALargeVocabularyIsReadInWellUnderASecond) {
  std::string text = R"({"model":{"vocab":{)";
  for (int i = 0; i < 128000; ++i) {
    text += (i == 0 ? "\"tok\\u00e9" : ",\"tok\\u00e9") + std::to_string(i * 2654435761u) +
            "\":" + std::to_string(i);
  }
  text += R"(},"merges":[)";
  for (int i = 0; i < 280000; ++i) {
    const std::string number = std::to_string(i);
    text += (i == 0 ? "[\"the left side of " : ",[\"the left side of ") + number + "\",\"right side " +
            number + "\"]";
  }
  text += "]}}";
  ASSERT_GT(text.size(), 16u << 20);
  const Stopwatch watch;
  const Json json = parse(text);
  const double seconds = watch.seconds();
  EXPECT_EQ(json.find("model")->find("vocab")->as_object("").size(), 128000u);
  EXPECT_EQ(json.find("model")->find("merges")->as_array("").size(), 280000u);
  RecordProperty("milliseconds", static_cast<int>(seconds * 1000));
#if defined(__OPTIMIZE__) && !defined(LLAMITA_SANITIZED)
  EXPECT_LT(seconds, 1.0);
#endif
}

}  // namespace
}  // namespace llamita
