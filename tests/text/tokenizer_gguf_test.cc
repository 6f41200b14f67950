// The tokenizer.ggml.* keys: the same ids as from tokenizer.json and as SentencePiece, and broken files.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "formats/gguf.h"
#include "formats/json.h"
#include "support/expect_error.h"
#include "support/gguf_builder.h"
#include "support/temp_dir.h"
#include "text/tokenizer_files.h"
#include "text/tokenizer_golden.h"

namespace llamita {
namespace {

using Ids = std::vector<int32_t>;
using Texts = std::vector<std::string>;
using test::GgufBuilder;

std::unique_ptr<Tokenizer> load(GgufBuilder& builder) {
  const std::string bytes = builder.build();
  return Tokenizer::from_gguf(gguf::File::parse(std::as_bytes(std::span(bytes)), "t.gguf"));
}

// The keys that stand for a golden tokenizer.json.
GgufBuilder byte_level_keys(const std::string& name, const std::string& pre) {
  const Json file = Json::parse(test::golden("tokenizer/" + name + "/tokenizer.json"), name);
  const Json& model = *file.find("model");
  std::map<int64_t, std::string> by_id;
  std::vector<int32_t> types;
  for (const auto& [text, id] : model.find("vocab")->as_object("vocab")) by_id[id.as_int("id")] = text;
  types.assign(by_id.size(), 1);
  for (const Json& token : file.find("added_tokens")->as_array("added")) {
    const int64_t id = token.find("id")->as_int("id");
    by_id[id] = token.find("content")->as_string("content");
    types.resize(by_id.size(), 1);
    types[static_cast<size_t>(id)] = 3;
  }
  Texts tokens, merges;
  for (const auto& [id, text] : by_id) tokens.push_back(text);
  for (const Json& merge : model.find("merges")->as_array("merges")) {
    merges.push_back(merge.is_string() ? merge.as_string("merge")
                                       : merge.as_array("merge")[0].as_string("left") + " " +
                                             merge.as_array("merge")[1].as_string("right"));
  }
  GgufBuilder builder;
  builder.kv("tokenizer.ggml.model", "gpt2").kv("tokenizer.ggml.pre", pre);
  builder.kv("tokenizer.ggml.tokens", tokens).kv("tokenizer.ggml.token_type", types);
  builder.kv("tokenizer.ggml.merges", merges);
  return builder;
}

class TokenizerGgufBytes : public testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(TokenizerGgufBytes, GivesTheIdsOfTokenizerJson) {
  const auto [name, pre] = GetParam();
  GgufBuilder builder = byte_level_keys(name, pre);
  builder.kv("tokenizer.ggml.add_bos_token", false);
  const auto tokenizer = load(builder);
  const auto reference = test::golden_tokenizer(name);
  for (const auto& fields : test::table(std::string(name) + "/cases.tsv")) {
    const std::string text = test::from_hex(fields[0]);
    for (const bool trusted : {false, true}) {
      const Ids ids = tokenizer->encode(text, true, trusted);
      EXPECT_EQ(ids, reference->encode(text, false, trusted)) << fields[0];
      EXPECT_EQ(tokenizer->decode(ids, true), reference->decode(ids, true)) << fields[0];
    }
  }
}

// Written as the files of a folder and read again.
TEST_P(TokenizerGgufBytes, GivesTheSameIdsAsAFolder) {
  const auto [name, pre] = GetParam();
  for (const bool bos : {false, true}) {
    GgufBuilder builder = byte_level_keys(name, pre);
    builder.kv("tokenizer.ggml.add_bos_token", bos).kv("tokenizer.ggml.bos_token_id", uint32_t{5});
    builder.kv("tokenizer.ggml.eos_token_id", uint32_t{3}).kv("tokenizer.chat_template", "{{ 'T' }}\n");
    const std::string bytes = builder.build();
    const gguf::File file = gguf::File::parse(std::as_bytes(std::span(bytes)), "t.gguf");
    const auto reference = Tokenizer::from_gguf(file);
    const TokenizerFiles files = tokenizer_files(file);
    const test::TempDir dir;
    dir.write("tokenizer.json", files.tokenizer);
    dir.write("tokenizer_config.json", files.config);
    const auto tokenizer = Tokenizer::from_folder(dir.path().string());
    for (const auto& fields : test::table(std::string(name) + "/cases.tsv")) {
      const std::string text = test::from_hex(fields[0]);
      for (const bool trusted : {false, true}) {
        const Ids ids = tokenizer->encode(text, true, trusted);
        EXPECT_EQ(ids, reference->encode(text, true, trusted)) << fields[0];
        EXPECT_EQ(tokenizer->decode(ids, true), reference->decode(ids, true)) << fields[0];
        EXPECT_EQ(tokenizer->decode(ids, false), reference->decode(ids, false)) << fields[0];
      }
    }
    EXPECT_EQ(tokenizer->vocab_size(), reference->vocab_size());
    EXPECT_EQ(tokenizer->bos(), reference->bos());
    EXPECT_EQ(tokenizer->eos(), reference->eos());
    EXPECT_EQ(tokenizer->chat_template(), reference->chat_template());
    for (int32_t id = 0; id < reference->vocab_size(); ++id) {
      ASSERT_EQ(tokenizer->is_control(id), reference->is_control(id)) << id;
      ASSERT_EQ(tokenizer->token_text(id), reference->token_text(id)) << id;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerGgufBytes,
                         testing::Values(std::pair("smollm", "smollm"), std::pair("llama3", "llama-bpe"),
                                         std::pair("tekken", "tekken")),
                         [](const auto& info) { return info.param.first; });

// The keys of the golden SentencePiece model.
GgufBuilder sentencepiece_keys() {
  Texts tokens;
  std::vector<float> scores;
  std::vector<int32_t> types;
  for (const auto& fields : test::table("sentencepiece/pieces.tsv")) {
    tokens.push_back(test::from_hex(fields[0]));
    scores.push_back(std::stof(fields[1]));
    types.push_back(std::stoi(fields[2]));
  }
  GgufBuilder builder;
  builder.kv("tokenizer.ggml.model", "llama").kv("tokenizer.ggml.tokens", tokens);
  builder.kv("tokenizer.ggml.scores", scores).kv("tokenizer.ggml.token_type", types);
  builder.kv("tokenizer.ggml.bos_token_id", uint32_t{1}).kv("tokenizer.ggml.eos_token_id", uint32_t{2});
  return builder;
}

TEST(TokenizerGgufSentencePiece, GivesSentencePiecesIds) {
  GgufBuilder builder = sentencepiece_keys();
  const auto tokenizer = load(builder);
  for (const auto& fields : test::table("sentencepiece/cases.tsv")) {
    EXPECT_EQ(tokenizer->encode(test::from_hex(fields[0]), false, false), test::ids_from(fields[1]))
        << fields[0];
  }
}

TEST(TokenizerGgufSentencePiece, PutsBosFirstAndASpaceBeforeTheText) {
  GgufBuilder builder = sentencepiece_keys();
  const auto tokenizer = load(builder);
  const Ids ids = tokenizer->encode("the word", true, false);
  EXPECT_EQ(ids.front(), 1);
  EXPECT_EQ(tokenizer->decode(ids, true), "the word");
  EXPECT_EQ(tokenizer->encode("</s>", false, true), Ids{2});
  EXPECT_TRUE(tokenizer->strips_leading_space());
  GgufBuilder without = sentencepiece_keys();
  without.kv("tokenizer.ggml.add_space_prefix", false).kv("tokenizer.ggml.add_bos_token", false);
  const auto plain = load(without);
  EXPECT_EQ(plain->encode(" the word", true, false), Ids(ids.begin() + 1, ids.end()));
  EXPECT_FALSE(plain->strips_leading_space());
}

TEST(TokenizerGgufSentencePiece, IsNotWrittenAsTokenizerJson) {
  GgufBuilder builder = sentencepiece_keys();
  const std::string bytes = builder.build();
  EXPECT_ERROR(tokenizer_files(gguf::File::parse(std::as_bytes(std::span(bytes)), "t.gguf")),
               "t.gguf: tokenizer.ggml.model is 'llama'; only byte-level tokenizers");
}

// A vocabulary of two tokens, to which each test adds its fault.
GgufBuilder small() {
  GgufBuilder builder;
  builder.kv("tokenizer.ggml.model", "gpt2")
      .kv("tokenizer.ggml.tokens", Texts{"a", "b", "ab", "<e>", "<t>", "<m>"});
  builder.kv("tokenizer.ggml.token_type", std::vector<int32_t>{1, 1, 1, 3, 4, 3});
  return builder;
}

TEST(TokenizerGguf, ReadsEndsOfReplies) {
  GgufBuilder builder = small();
  builder.kv("tokenizer.ggml.merges", Texts{"a b"}).kv("tokenizer.ggml.eos_token_id", uint32_t{3});
  builder.kv("tokenizer.ggml.eot_token_id", uint32_t{5}).kv("tokenizer.ggml.eom_token_id", uint32_t{3});
  builder.kv("tokenizer.ggml.add_eos_token", true).kv("tokenizer.chat_template", "T");
  const auto tokenizer = load(builder);
  EXPECT_EQ(tokenizer->stop_tokens(), (Ids{3, 5}));
  EXPECT_EQ(tokenizer->encode("ab<t><e>", true, true), (Ids{2, 4, 3, 3}));
  EXPECT_EQ(tokenizer->encode("ab<t><e>", false, false),
            (Ids{2, 4}));  // the user's own tokens are no control tokens
  EXPECT_EQ(tokenizer->chat_template(), "T");
  EXPECT_EQ(tokenizer->description(), "byte-level BPE (default)");
}

// The tokens of `types`, in a file that says how a reply ends by `eos` alone.
std::unique_ptr<Tokenizer> load_ends(const Texts& tokens, const std::vector<int32_t>& types, uint32_t eos) {
  GgufBuilder builder;
  builder.kv("tokenizer.ggml.model", "gpt2").kv("tokenizer.ggml.tokens", tokens);
  builder.kv("tokenizer.ggml.token_type", types).kv("tokenizer.ggml.merges", Texts{});
  builder.kv("tokenizer.ggml.eos_token_id", eos);
  return load(builder);
}

TEST(TokenizerGguf, WhatEndsAReplyIsAControlTokenWhateverItsType) {
  for (const int32_t type : {1, 3, 4}) {  // normal, control, the user's own
    const auto tokenizer = load_ends({"a", "<end>"}, {1, type}, 1);
    EXPECT_TRUE(tokenizer->is_control(1)) << type;
    EXPECT_EQ(tokenizer->encode("a<end>", false, true), (Ids{0, 1})) << type;
    EXPECT_EQ(tokenizer->encode("a<end>", false, false), Ids{0}) << type;
  }
  // One that is text all the same stays text.
  const auto lines = load_ends({"a", "Ċ"}, {1, 1}, 1);
  EXPECT_EQ(lines->encode("a\n", false, false), (Ids{0, 1}));
  EXPECT_EQ(lines->stop_tokens(), Ids{1});
}

TEST(TokenizerGguf, KnownEndsOfTurnsStopRepliesUnnamed) {
  const auto tokenizer =
      load_ends({"a", "<|end_of_text|>", "<|eot_id|>", "<|im_end|>", "<|end|>"}, {1, 3, 3, 4, 1}, 1);
  EXPECT_EQ(tokenizer->stop_tokens(), (Ids{1, 2, 3}));  // the last is an ordinary token here
  EXPECT_TRUE(tokenizer->is_control(3));
  EXPECT_FALSE(tokenizer->is_control(4));
}

TEST(TokenizerGguf, NamesWhatIsMissingOrWrong) {
  const auto with = [](auto&& change) {
    GgufBuilder builder = small();
    change(builder);
    load(builder);
  };
  GgufBuilder empty;
  EXPECT_ERROR(load(empty), "tokenizer.ggml.model is missing");
  GgufBuilder no_tokens;
  no_tokens.kv("tokenizer.ggml.model", "gpt2");
  EXPECT_ERROR(load(no_tokens), "tokenizer.ggml.tokens is missing");
  GgufBuilder unknown;
  unknown.kv("tokenizer.ggml.model", "rwkv").kv("tokenizer.ggml.tokens", Texts{"a"});
  EXPECT_ERROR(load(unknown), "'rwkv'");
  EXPECT_ERROR(with([](auto&) {}), "tokenizer.ggml.merges is missing");
  EXPECT_ERROR(with([](auto& b) { b.kv("tokenizer.ggml.pre", "gpt-99"); }),
               "'gpt-99' is not supported; these are: default");
  EXPECT_ERROR(with([](auto& b) { b.kv("tokenizer.ggml.merges", Texts{"a c"}); }), "names 'ac'");
  EXPECT_ERROR(with([](auto& b) { b.kv("tokenizer.ggml.merges", Texts{"ab"}); }), "not two tokens");
  EXPECT_ERROR(with([](auto& b) {
                 b.kv("tokenizer.ggml.merges", Texts{}).kv("tokenizer.ggml.bos_token_id", uint32_t{6});
               }),
               "outside the vocabulary of 6");
  GgufBuilder types;
  types.kv("tokenizer.ggml.model", "gpt2").kv("tokenizer.ggml.tokens", Texts{"a"});
  types.kv("tokenizer.ggml.token_type", std::vector<int32_t>{1, 1});
  EXPECT_ERROR(load(types), "2 entries for 1 tokens");
  GgufBuilder scores;
  scores.kv("tokenizer.ggml.model", "llama").kv("tokenizer.ggml.tokens", Texts{"a"});
  EXPECT_ERROR(load(scores), "scores is missing");
  scores.kv("tokenizer.ggml.scores", std::vector<float>{NAN});
  EXPECT_ERROR(load(scores), "NaN");
}

TEST(TokenizerGguf, LoadsEveryKnownPreTokenizer) {
  for (const char* pre : {"default", "gpt-2", "llama-bpe", "llama3", "qwen2", "qwen35", "smollm", "tekken",
                          "gpt-4o", "llama4", "deepseek-coder", "deepseek-v3", "starcoder"}) {
    GgufBuilder builder = small();
    builder.kv("tokenizer.ggml.pre", pre).kv("tokenizer.ggml.merges", Texts{"a b"});
    EXPECT_EQ(load(builder)->encode("ab", false, false), Ids{2}) << pre;
  }
}

}  // namespace
}  // namespace llamita
