// Replies that are held to a form: whatever a model without any sense says, the form is kept.
#include <gtest/gtest.h>

#include <set>

#include "engine/async_support.h"
#include "formats/json.h"
#include "support/expect_error.h"
#include "support/golden_model.h"
#include "text/grammar/gbnf.h"
#include "text/grammar/matcher.h"

namespace llamita {
namespace {

using test::FakeModel;
using test::FakeTokenizer;
using test::Listener;

// All bytes but 0, some pieces of JSON, and "<end>".
FakeTokenizer byte_tokenizer() {
  std::vector<std::string> words;
  for (int byte = 1; byte < 256; ++byte) words.emplace_back(1, static_cast<char>(byte));
  for (const char* piece : {"{\"", "\": ", "\",", "\"}", "}}", "true", "[1", ", ", "é", "name"})
    words.emplace_back(piece);
  words.emplace_back("<end>");
  return FakeTokenizer(words);
}

std::unique_ptr<ServedModel> fake_served() {
  auto tokenizer = std::make_unique<FakeTokenizer>(byte_tokenizer());
  auto model = std::make_unique<FakeModel>(tokenizer->vocab_size());
  EngineConfig config = test::small_config();
  return std::make_unique<ServedModel>(std::move(tokenizer), std::move(model), config);
}

// One schema of 18 bytes costs 34, with 16 for each that is looked at.
TEST(Constraint, CompilingASchemaHasALimit) {
  const std::string schema = R"({"type":"integer"})";
  for (const size_t most : {33u, 34u, 35u}) {
    auto tokenizer = std::make_unique<FakeTokenizer>(byte_tokenizer());
    auto model = std::make_unique<FakeModel>(tokenizer->vocab_size());
    EngineConfig config = test::small_config();
    config.schema_work = most;
    const ServedModel served(std::move(tokenizer), std::move(model), config);
    Request request{std::vector<int32_t>{1, 2, 3}, {}};
    request.sampling.constraint = {Constraint::Kind::json_schema, schema};
    if (most < 34) {
      EXPECT_ERROR(served.preparer.prepare(request), "grows too large");
    } else {
      EXPECT_NE(served.preparer.prepare(request).form, nullptr);
    }
  }
}

Request held_to(Constraint::Kind kind, const std::string& text, int seed) {
  Request request{std::vector<int32_t>{1, 2, 3, seed % 50}, {}};
  request.sampling.constraint = {kind, text};
  request.sampling.seed = static_cast<uint64_t>(seed);
  const float temperatures[] = {0.0f, 0.7f, 1.0f, 3.0f};
  request.sampling.temperature = temperatures[seed % 4];
  if (seed % 3 == 0) request.sampling.top_p = 0.9f;
  if (seed % 5 == 0) request.sampling.top_k = 20;
  if (seed % 7 == 0) request.sampling.repetition_penalty = 1.2f;
  return request;
}

const char* const kSchema = R"({"type":"object","properties":{
    "name":{"type":"string","maxLength":8},
    "age":{"type":"integer","minimum":0,"maximum":150},
    "kind":{"enum":["llama","vicuña"]},
    "tags":{"type":"array","items":{"type":"boolean"},"maxItems":3}},
  "required":["name","age","kind","tags"],"additionalProperties":false})";

void expect_fits_schema(const std::string& text) {
  SCOPED_TRACE(text);
  const Json value = Json::parse(text, "reply");
  ASSERT_EQ(value.as_object("reply").size(), 4u);
  EXPECT_LE(value.find("name")->as_string("name").size(), 4 * 8u);
  const int64_t age = value.find("age")->as_int("age");
  EXPECT_TRUE(age >= 0 && age <= 150) << age;
  const std::string& kind = value.find("kind")->as_string("kind");
  EXPECT_TRUE(kind == "llama" || kind == "vicuña") << kind;
  const Json::Array& tags = value.find("tags")->as_array("tags");
  EXPECT_LE(tags.size(), 3u);
  for (const Json& tag : tags) EXPECT_TRUE(tag.is_bool());
}

// Prepares and runs all requests together.
std::vector<Completion> replies(ServedModel& served, const std::vector<Request>& requests) {
  std::vector<TokenRequest> prepared;
  for (const Request& request : requests) prepared.push_back(served.preparer.prepare(request));
  return served.engine.generate(prepared);
}

TEST(Constraint, ASchemaIsKeptForEverySeed) {
  const auto served = fake_served();
  std::vector<Request> requests;
  for (int seed = 0; seed < 120; ++seed)
    requests.push_back(held_to(Constraint::Kind::json_schema, kSchema, seed));
  std::set<std::string> different;
  for (const Completion& done : replies(*served, requests)) {
    const Choice& choice = done.choices[0];
    ASSERT_EQ(choice.finish, FinishReason::stop) << choice.text << choice.error;
    expect_fits_schema(choice.text);
    different.insert(choice.text);
  }
  EXPECT_GT(different.size(), 60u);
}

TEST(Constraint, JsonObjectsParseAndWhatIsCutOffIsAPrefix) {
  const auto served = fake_served();
  std::vector<Request> requests;
  for (int seed = 0; seed < 60; ++seed) {
    requests.push_back(held_to(Constraint::Kind::json_object, "", seed));
    requests.back().sampling.max_tokens = seed % 2 == 0 ? 7 + seed : 400;
    // The model would love to stop.
    requests.back().sampling.logit_bias = {{served->tokenizer->vocab_size() - 1, 50.0f}};
  }
  const auto prefix_of_json = [&](const std::string& text) {
    grammar::Matcher matcher(served->preparer.prepare(requests[0]).form);
    return matcher.accept_bytes(text);
  };
  int complete = 0, cut = 0;
  for (const Completion& done : replies(*served, requests)) {
    const Choice& choice = done.choices[0];
    if (choice.finish == FinishReason::stop) {
      ++complete;
      EXPECT_TRUE(Json::parse(choice.text, "reply").is_object());
    } else {
      ASSERT_EQ(choice.finish, FinishReason::length) << choice.error;
      ++cut;
      // A character that was cut in two is shown as U+FFFD.
      std::string text = choice.text;
      if (text.size() >= 3 && text.compare(text.size() - 3, 3, "\uFFFD") == 0) text.resize(text.size() - 3);
      EXPECT_TRUE(prefix_of_json(text)) << choice.text;
    }
  }
  EXPECT_GT(complete, 0);
  EXPECT_GT(cut, 0);
}

TEST(Constraint, AFormThatAllowsNothingMoreEndsTheReply) {
  const auto served = fake_served();
  Request request = held_to(Constraint::Kind::gbnf, "root ::= \"yes\" | \"no\"", 3);
  request.sampling.ignore_eos = true;
  for (int seed = 0; seed < 20; ++seed) {
    request.sampling.seed = static_cast<uint64_t>(seed);
    const Choice choice = replies(*served, {request})[0].choices[0];
    EXPECT_EQ(choice.finish, FinishReason::stop);
    EXPECT_TRUE(choice.text == "yes" || choice.text == "no") << choice.text;
  }
  // Without a token that ends replies too.
  auto endless = std::make_unique<FakeTokenizer>(byte_tokenizer());
  GrammarCache forms(*endless, 256, {});
  const FakeModel model(256);
  Engine engine(model, *endless, test::small_config());
  TokenRequest tokens{{1, 2}, request.sampling, ""};
  tokens.form = forms.find(request.sampling.constraint);
  const Choice choice = engine.generate({tokens})[0].choices[0];
  EXPECT_EQ(choice.finish, FinishReason::stop);
  EXPECT_TRUE(choice.text == "yes" || choice.text == "no") << choice.text;
}

TEST(Constraint, WhatTheVocabularyCannotSpellIsAnError) {
  const FakeTokenizer letters = FakeTokenizer::letters();
  const FakeModel model;
  Engine engine(model, letters, test::small_config());
  GrammarCache forms(letters, letters.vocab_size(), letters.stop_tokens());
  EXPECT_ERROR(forms.find({Constraint::Kind::json_object, ""}), "no token can be its first");
  TokenRequest tokens{{1, 2}, {}, ""};
  tokens.form = forms.find({Constraint::Kind::gbnf, "root ::= \"ab\" \"!\""});
  const Choice choice = engine.generate({tokens})[0].choices[0];
  EXPECT_EQ(choice.finish, FinishReason::error);
  EXPECT_EQ(choice.text, "ab");
  EXPECT_NE(choice.error.find("vocabulary"), std::string::npos);
}

TEST(Constraint, BrokenFormsAreRefusedAndGoodOnesCompileOnce) {
  const auto served = fake_served();
  for (int round = 0; round < 2; ++round) {
    EXPECT_ERROR(served->preparer.prepare(held_to(Constraint::Kind::json_schema, "{\"type\":\"llama\"}", 1)),
                 "llama");
    EXPECT_ERROR(served->preparer.prepare(held_to(Constraint::Kind::gbnf, "root = \"a\"", 1)),
                 "grammar, line 1");
  }
  const Request good = held_to(Constraint::Kind::json_schema, kSchema, 1);
  const auto form = served->preparer.prepare(good).form;
  EXPECT_EQ(served->preparer.prepare(good).form, form);
  for (size_t i = 0; i < GrammarCache::kForms; ++i) {
    const std::string text = cat("root ::= \"", i, "\"");
    served->preparer.prepare(held_to(Constraint::Kind::gbnf, text, 1));
  }
  EXPECT_NE(served->preparer.prepare(good).form, form) << "the one that was used longest ago has made room";
  EXPECT_EQ(served->preparer.prepare(held_to(Constraint::Kind::none, "", 1)).form, nullptr);
}

// Reads each letter as the beginning of sixty alternatives that look alike for long.
std::string ambiguous(const std::string& root) {
  std::string text = cat("root ::= ", root, "\nitem ::= [a-z] ");
  for (int i = 0; i < 60; ++i) {
    text += cat("| \"", std::string(1, static_cast<char>('a' + i % 4)), "\" [a-z]{", 20 + i, ",", 200 + 3 * i,
                "} ");
  }
  return text;
}

// The request ends, with all its choices, and another one's reply is what it would be alone.
TEST(Constraint, AFormThatIsTooCostlyEndsItsRequestAlone) {
  const auto served = fake_served();
  Request hostile = held_to(Constraint::Kind::gbnf, ambiguous("\"ok\" item{2000}"), 2);
  hostile.sampling.n = 3;
  Request other{std::vector<int32_t>{5, 6, 7}, {}};
  other.sampling.max_tokens = 30;
  other.sampling.seed = 4;
  other.sampling.ignore_eos = true;
  const auto alone = replies(*served, {other});
  const auto together = replies(*served, {hostile, other});
  for (const Choice& choice : together[0].choices) {
    EXPECT_EQ(choice.finish, FinishReason::error);
    EXPECT_EQ(choice.error_code, kGrammarTooCostly);
    EXPECT_EQ(choice.error, grammar::Matcher::kTooCostly);
    EXPECT_EQ(choice.text.substr(0, 2), "ok");
  }
  EXPECT_EQ(together[1].choices[0].finish, FinishReason::length);
  EXPECT_EQ(together[1].choices[0].text, alone[0].choices[0].text);
}

TEST(Constraint, AFormWhoseFirstTokenIsTooCostlyIsRefused) {
  std::vector<std::string> words;
  for (char letter = 'a'; letter <= 'z'; ++letter) words.emplace_back(1, letter);
  for (int i = 0; i < 4096; ++i) {
    words.emplace_back();
    for (int bits = i, at = 0; at < 6; ++at, bits /= 4) words.back() += static_cast<char>('a' + bits % 4);
  }
  words.emplace_back("<end>");
  const FakeTokenizer tokenizer(words);
  GrammarCache forms(tokenizer, tokenizer.vocab_size(), tokenizer.stop_tokens());
  const Constraint constraint{Constraint::Kind::gbnf, ambiguous("item{2000}")};
  EXPECT_THROW(forms.find(constraint), GrammarTooCostly);
  EXPECT_ERROR(forms.find(constraint), "too costly");
}

TEST(Constraint, FormsAreSharedByThreads) {
  const auto engine = std::make_unique<ThreadedEngine>(fake_served(), test::small_config());
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < 4; ++i) {
        Listener listener;
        Request request = held_to(Constraint::Kind::json_schema, kSchema, thread * 4 + i);
        request.sampling.n = 2;
        engine->submit(engine->prepare(request), {}, listener.on_update());
        const Completion done = listener.wait();
        for (const Choice& choice : done.choices) expect_fits_schema(choice.text);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// A real model of random weights, with a byte-level tokenizer.
TEST(Constraint, ATinyModelKeepsASchema) {
  const std::string folder = test::golden_model("llama");
  EngineConfig config = test::small_config();
  const auto served = ServedModel::load(folder, config, {});
  std::vector<Request> requests;
  for (int seed = 0; seed < 24; ++seed) {
    requests.push_back(
        held_to(Constraint::Kind::json_schema,
                R"({"type":"object","properties":{"a":{"type":"integer","maximum":9,"minimum":0},
        "b":{"type":"string","maxLength":3}},"required":["a","b"],"additionalProperties":false})",
                seed));
  }
  for (const Completion& done : replies(*served, requests)) {
    const Choice& choice = done.choices[0];
    ASSERT_EQ(choice.finish, FinishReason::stop) << choice.text << choice.error;
    const Json value = Json::parse(choice.text, "reply");
    const int64_t a = value.find("a")->as_int("a");
    EXPECT_TRUE(a >= 0 && a <= 9);
    EXPECT_LE(value.find("b")->as_string("b").size(), 12u);
  }
}

}  // namespace
}  // namespace llamita
