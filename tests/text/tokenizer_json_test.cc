// Files beside tokenizer.json, and files that are broken or hostile.
#include <gtest/gtest.h>

#include "support/expect_error.h"
#include "support/temp_dir.h"
#include "text/tokenizer_golden.h"

namespace llamita {
namespace {

using Ids = std::vector<int32_t>;

constexpr const char* kModel = R"("model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]})";

std::unique_ptr<Tokenizer> load(const std::string& members) {
  return Tokenizer::from_json("{" + members + "}", "t.json");
}

TEST(TokenizerJson, LoadsTheSmallestFile) {
  const auto tokenizer = load(kModel);
  EXPECT_EQ(tokenizer->vocab_size(), 3);
  EXPECT_EQ(tokenizer->encode("abba", true, false), (Ids{2, 1, 0}));
  EXPECT_EQ(tokenizer->encode("", true, false), Ids{});
  EXPECT_EQ(tokenizer->decode(Ids{2, 1}, true), "ab b");  // no decoder: tokens joined by spaces
  EXPECT_EQ(tokenizer->find("ab"), 2);
  EXPECT_EQ(tokenizer->find("x"), std::nullopt);
  EXPECT_EQ(tokenizer->token_text(3), "");
  EXPECT_EQ(tokenizer->token_bytes(-1), "");
  EXPECT_FALSE(tokenizer->bos());
}

TEST(TokenizerJson, NamesWhatIsMissing) {
  EXPECT_ERROR(load(""), "\"model\" is missing");
  EXPECT_ERROR(load(R"("model":{"type":"BPE","vocab":{}})"), "\"merges\" is missing");
  EXPECT_ERROR(load(R"("model":{"type":"BPE","merges":[]})"), "\"vocab\" is missing");
  EXPECT_ERROR(load(std::string(kModel) + R"(,"added_tokens":[{"content":"x"}])"), "\"id\" is missing");
  EXPECT_ERROR(Tokenizer::from_folder("/nonexistent"), "tokenizer.json is not there");
}

TEST(TokenizerJson, NamesWhatItDoesNotSupport) {
  EXPECT_ERROR(load(R"("model":{"type":"WordPiece","vocab":{}})"), "'WordPiece'");
  EXPECT_ERROR(load(R"("model":{"vocab":{}})"), "unnamed");
  EXPECT_ERROR(load(std::string(kModel) + R"(,"normalizer":{"type":"Nmt"})"), "normalizer 'Nmt'");
  EXPECT_ERROR(load(std::string(kModel) + R"(,"pre_tokenizer":{"type":"BertPreTokenizer"})"),
               "'BertPreTokenizer'");
  EXPECT_ERROR(load(std::string(kModel) + R"(,"decoder":{"type":"CTC"})"), "decoder 'CTC'");
  EXPECT_ERROR(load(std::string(kModel) + R"(,"post_processor":{"type":"X\u001b[2J"})"), "\\x1b");
  EXPECT_ERROR(load(R"("model":{"type":"BPE","vocab":{},"merges":[],"continuing_subword_prefix":"##"})"),
               "'##'");
  EXPECT_ERROR(
      load(
          std::string(kModel) +
          R"(,"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"ByteLevel"},{"type":"Whitespace"}]})"),
      "after ByteLevel");
  EXPECT_ERROR(load(std::string(kModel) + R"(,"decoder":{"type":"Sequence","decoders":[{"type":"Fuse"},)"
                                          R"({"type":"Strip","content":" ","start":0,"stop":1}]})"),
               "Strip after Fuse");
}

TEST(TokenizerJson, RefusesBrokenMerges) {
  const auto with = [](const char* merges) {
    return load(std::string(R"("model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":)") + merges +
                "}");
  };
  EXPECT_ERROR(with(R"(["a c"])"), "names 'ac'");
  EXPECT_ERROR(with(R"(["b a"])"), "names 'ba'");
  EXPECT_ERROR(with(R"(["ab"])"), "not two tokens");
  EXPECT_ERROR(with(R"(["a b c"])"), "not two tokens");
  EXPECT_ERROR(with(R"([["a"]])"), "1 tokens instead of two");
  EXPECT_ERROR(with(R"([7])"), "merges");
  EXPECT_EQ(with(R"([["a","b"],["a","b"]])")->encode("ab", false, false), Ids{2});
}

TEST(TokenizerJson, RefusesBrokenIds) {
  const auto with = [](const char* vocab) {
    return load(std::string(R"("model":{"type":"BPE","merges":[],"vocab":)") + vocab + "}");
  };
  EXPECT_ERROR(with(R"({"a":-1})"), "out of range");
  EXPECT_ERROR(with(R"({"a":2000000000})"), "out of range");
  EXPECT_ERROR(with(R"({"a":99999999999999999999})"), "vocab");
  EXPECT_ERROR(with(R"({"a":0.5})"), "vocab");
  EXPECT_ERROR(with(R"({"a":0,"b":0})"), "same id 0");
  EXPECT_ERROR(load(std::string(kModel) + R"(,"added_tokens":[{"id":1,"content":"x"}])"), "same id 1");
  EXPECT_ERROR(load(std::string(kModel) + R"(,"added_tokens":[{"id":7,"content":"a"}])"),
               "spelling of its own");
  EXPECT_ERROR(load(std::string(kModel) + R"(,"post_processor":{"type":"TemplateProcessing","single":)"
                                          R"([{"SpecialToken":{"id":"s"}},{"Sequence":{"id":"A"}}],)"
                                          R"("special_tokens":{"s":{"id":"s","ids":[12]}}})"),
               "out of range");
  EXPECT_EQ(with(R"({"a":0,"c":9})")->vocab_size(), 10);  // holes are fine
}

TEST(TokenizerJson, TakesManyAddedTokensAndRefusesHugeOnes) {
  std::string list;
  for (int i = 0; i < 20000; ++i)
    list += R"({"id":)" + std::to_string(3 + i) + R"(,"content":"<x)" + std::to_string(i) + ">\"},";
  list.pop_back();
  const auto tokenizer = load(std::string(kModel) + ",\"added_tokens\":[" + list + "]");
  EXPECT_EQ(tokenizer->encode("a<x19999>b<x1>", false, false), (Ids{0, 20002, 1, 4}));
  EXPECT_ERROR(
      load(std::string(kModel) + R"(,"added_tokens":[{"id":3,"content":")" + std::string(5000, 'x') + "\"}]"),
      "5000 bytes long");
}

TEST(TokenizerJson, RefusesBadPatterns) {
  const auto with = [](const std::string& regex) {
    return load(std::string(kModel) +
                R"(,"pre_tokenizer":{"type":"Split","behavior":"Isolated","pattern":{"Regex":")" + regex +
                "\"}}");
  };
  EXPECT_ERROR(with("(a"), "cannot be compiled");
  EXPECT_ERROR(with("[[:nope:]]"), "cannot be compiled");
  EXPECT_ERROR(with(std::string(100000, 'a')), "cannot be compiled");
  // Exponential backtracking ends with an error.
  EXPECT_ERROR(with("(a|a|aa)+$")->encode(std::string(200, 'a') + "b", false, false), "gave up");
}

TEST(TokenizerJson, LongestAddedTokenWinsAndFlagsAreHonoured) {
  const auto tokenizer = load(std::string(kModel) + R"(,"added_tokens":[
    {"id":3,"content":"<a>","special":true,"normalized":false},{"id":4,"content":"<a>b","normalized":false},
    {"id":5,"content":"<l>","lstrip":true,"normalized":false},{"id":6,"content":"<r>","rstrip":true,"normalized":false},
    {"id":7,"content":"w","single_word":true,"normalized":false}])");
  EXPECT_EQ(tokenizer->encode("<a><a>b", false, true), (Ids{3, 4}));
  EXPECT_EQ(tokenizer->encode("<a><a>b", false, false), (Ids{0, 4}));
  EXPECT_EQ(tokenizer->encode("a \n<l> b", false, true), (Ids{0, 5, 1}));
  EXPECT_EQ(tokenizer->encode("<r> \t<l>", false, true), (Ids{6, 5}));
  EXPECT_EQ(tokenizer->encode("w aw w", false, true), (Ids{7, 0, 7}));
}

TEST(TokenizerFolder, ReadsEndsAndTemplates) {
  const test::TempDir folder;
  folder.write("tokenizer.json",
               "{" + std::string(kModel) +
                   R"(,"added_tokens":[{"id":3,"content":"<s>","special":true},{"id":4,"content":"</s>"},
                                       {"id":5,"content":"<end>"}]})");
  folder.write("tokenizer_config.json", R"({"bos_token":"<s>","eos_token":{"content":"</s>"},"chat_template":[
      {"name":"default","template":"A"},{"name":"tool_use","template":"B"}]})");
  folder.write("generation_config.json", R"({"eos_token_id":[5,4]})");
  auto tokenizer = Tokenizer::from_folder(folder.path().string());
  EXPECT_EQ(tokenizer->bos(), 3);
  EXPECT_EQ(tokenizer->eos(), 4);
  EXPECT_EQ(tokenizer->stop_tokens(), (Ids{4, 5}));
  EXPECT_EQ(tokenizer->chat_template(), "A");
  EXPECT_TRUE(tokenizer->is_control(5));  // it ends replies, so no user may spell it
  EXPECT_EQ(tokenizer->encode("<end>", false, false), Ids{});
  folder.write("chat_template.json", R"({"chat_template":"J"})");
  EXPECT_EQ(Tokenizer::from_folder(folder.path().string())->chat_template(), "J");
  folder.write("chat_template.jinja", "C");
  EXPECT_EQ(Tokenizer::from_folder(folder.path().string())->chat_template(), "C");
  folder.write("generation_config.json", R"({"eos_token_id":99})");
  EXPECT_ERROR(Tokenizer::from_folder(folder.path().string()), "eos_token_id");
}

TEST(TokenizerFolder, TheMapOfSpecialTokensIsTheSecondChoice) {
  const test::TempDir folder;
  folder.write("tokenizer.json", "{" + std::string(kModel) + "}");
  folder.write("special_tokens_map.json", R"({"bos_token":"a","eos_token":"b"})");
  folder.write("tokenizer_config.json", R"({"eos_token":"ab","bos_token":null,"chat_template":"T"})");
  const auto tokenizer = Tokenizer::from_folder(folder.path().string());
  EXPECT_EQ(tokenizer->bos(), 0);
  EXPECT_EQ(tokenizer->eos(), 2);
  EXPECT_EQ(tokenizer->chat_template(), "T");
}

}  // namespace
}  // namespace llamita
