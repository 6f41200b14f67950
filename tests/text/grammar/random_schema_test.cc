// Random schemas: random walks through the masks end in JSON that a validator of its own finds valid;
// documents made from the schema are accepted; documents broken at random are accepted only if they are valid
// still.
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "formats/json.h"
#include "formats/utf8.h"
#include "llamita/error.h"
#include "text/grammar/grammar_support.h"

namespace llamita {
namespace {

using Random = std::mt19937_64;

Json text_json(const std::string& text) { return Json(text); }

class Schemas {
 public:
  explicit Schemas(uint64_t seed) : random_(seed) {}
  size_t below(size_t n) { return static_cast<size_t>(random_() % n); }

  Json schema(int depth) {
    Json::Object out;
    switch (below(depth > 0 ? 8 : 5)) {
      case 0: return typed("boolean", {});
      case 1: return typed("integer", {{"minimum", number(-50)}, {"maximum", number(200)}});
      case 2:
        return typed("string", {{"minLength", number(int64_t(below(3)))},
                                {"maxLength", number(int64_t(3 + below(90)))}});
      case 3:
        return Json(
            Json::Object{{"enum", Json(Json::Array{text_json("a\"b"), number(7), Json(), text_json("é")})}});
      case 4: return typed("number", {});
      case 5:
        return typed("array", {{"items", schema(depth - 1)},
                               {"minItems", number(int64_t(below(3)))},
                               {"maxItems", number(int64_t(3 + below(60)))}});
      case 6: return Json(Json::Object{{"anyOf", Json(Json::Array{schema(depth - 1), schema(depth - 1)})}});
      default: break;
    }
    Json::Object properties;
    Json::Array required;
    for (size_t i = 0, n = 1 + below(4); i < n; ++i) {
      const std::string name = std::string(1, static_cast<char>('a' + i)) + (below(2) ? "\n" : "");
      properties.emplace_back(name, schema(depth - 1));
      if (below(2)) required.push_back(text_json(name));
    }
    return typed("object", {{"properties", Json(properties)},
                            {"required", Json(required)},
                            {"additionalProperties", Json(false)}});
  }

  // A document that the schema allows.
  Json document(const Json& schema) {
    if (const Json* options = schema.find("anyOf")) return document(options->as_array("")[below(2)]);
    if (const Json* values = schema.find("enum")) return values->as_array("")[below(4)];
    const std::string& type = schema.find("type")->as_string("");
    if (type == "boolean") return Json(below(2) == 1);
    if (type == "integer") return number(int64_t(below(251)) - 50);
    if (type == "number") return Json(double(below(1000)) / 8 - 20);
    Json::Array items;
    if (type == "string" || type == "array") {
      const bool array = type == "array";
      const auto min = size_t(schema.find(array ? "minItems" : "minLength")->as_int(""));
      const auto max = size_t(schema.find(array ? "maxItems" : "maxLength")->as_int(""));
      const size_t n = min + below(std::min<size_t>(max - min, 6) + 1);
      std::string text;
      for (size_t i = 0; i < n; ++i) {
        static const char* const kCharacters[] = {"a", "\"", "\\", "\n", "é", "日", "\U0001F600", "\x01"};
        if (array) items.push_back(document(*schema.find("items")));
        text += kCharacters[below(8)];
      }
      return array ? Json(items) : text_json(text);
    }
    Json::Object members;
    for (const auto& [name, value] : schema.find("properties")->as_object("")) {
      bool needed = false;
      for (const Json& each : schema.find("required")->as_array("")) needed |= each.as_string("") == name;
      if (needed || below(2)) members.emplace_back(name, document(value));
    }
    return Json(members);
  }

 private:
  static Json number(int64_t value) { return Json(value); }
  static Json typed(const char* type, Json::Object rest) {
    rest.emplace_back("type", text_json(type));
    return Json(std::move(rest));
  }
  Random random_;
};

size_t characters(const std::string& text) {
  size_t n = 0;
  for (size_t at = 0; at < text.size(); at += utf8_length(std::string_view(text).substr(at))) ++n;
  return n;
}

bool between(double value, const Json& schema, const char* min, const char* max) {
  const Json *low = schema.find(min), *high = schema.find(max);
  return (low == nullptr || value >= low->as_double("")) && (high == nullptr || value <= high->as_double(""));
}

bool valid(const Json& schema, const Json& value) {
  if (const Json* options = schema.find("anyOf")) {
    for (const Json& each : options->as_array("")) {
      if (valid(each, value)) return true;
    }
    return false;
  }
  if (const Json* values = schema.find("enum")) {
    for (const Json& each : values->as_array("")) {
      if (each.dump() == value.dump()) return true;
    }
    return false;
  }
  const std::string& type = schema.find("type")->as_string("");
  if (type == "boolean") return value.is_bool();
  if (type == "number") return value.is_number();
  if (type == "integer")
    return value.is_integer() && between(value.as_double(""), schema, "minimum", "maximum");
  if (type == "string") {
    return value.is_string() &&
           between(double(characters(value.as_string(""))), schema, "minLength", "maxLength");
  }
  if (type == "array") {
    if (!value.is_array() || !between(double(value.as_array("").size()), schema, "minItems", "maxItems"))
      return false;
    for (const Json& each : value.as_array("")) {
      if (!valid(*schema.find("items"), each)) return false;
    }
    return true;
  }
  if (!value.is_object()) return false;
  for (const auto& [name, member] : value.as_object("")) {
    const Json* known = schema.find("properties")->find(name);
    if (known == nullptr || !valid(*known, member)) return false;
  }
  for (const Json& each : schema.find("required")->as_array("")) {
    if (value.find(each.as_string("")) == nullptr) return false;
  }
  return true;
}

bool valid_text(const Json& schema, const std::string& text) {
  try {
    return valid(schema, Json::parse(text, "text"));
  } catch (const Error&) {
    return false;
  }
}

constexpr uint64_t kSchemas = 120;

TEST(RandomSchemas, WalksThroughTheMasksEndValid) {
  const auto trie = test::synthetic_trie();
  int finished = 0;
  for (uint64_t seed = 0; seed < kSchemas; ++seed) {
    const Json schema = Schemas(seed).schema(3);
    const auto masks = std::make_shared<grammar::MaskCache>(grammar::json_schema_grammar(schema), trie);
    for (uint64_t walk = 0; walk < 4; ++walk) {
      grammar::Matcher matcher(masks);
      Random random(seed * 100 + walk);
      const std::string text = test::random_walk(matcher, *trie, random, 400);
      ASSERT_EQ(text.find("refused"), std::string::npos) << text;
      if (!matcher.is_finished()) continue;  // a long one
      ++finished;
      ASSERT_TRUE(valid_text(schema, text)) << schema.dump() << "\n" << text;
    }
  }
  EXPECT_GT(finished, int(kSchemas) * 2);
}

TEST(RandomSchemas, ValidDocumentsAreAcceptedAndBrokenOnesAreNot) {
  for (uint64_t seed = 0; seed < kSchemas; ++seed) {
    Schemas random(seed);
    const Json schema = random.schema(3);
    const auto grammar = grammar::json_schema_grammar(schema);
    for (int i = 0; i < 4; ++i) {
      std::string text = random.document(schema).dump();
      ASSERT_TRUE(test::matches(grammar, text)) << schema.dump() << "\n" << text;
      for (int change = 0; change < 6; ++change) {
        std::string broken = text;
        const size_t at = random.below(broken.size());
        if (random.below(2)) {
          broken.erase(at, 1);
        } else {
          broken[at] = "\"\\,:{}[]0 9a\xC3"[random.below(13)];
        }
        if (!test::matches(grammar, broken)) continue;
        ASSERT_TRUE(valid_text(schema, broken)) << schema.dump() << "\n" << broken;
      }
    }
  }
}

}  // namespace
}  // namespace llamita
