// Calls in replies are found whole and in any pieces; what is no call stays content.
#include "text/parsers/tool_call_parser.h"

#include <gtest/gtest.h>

namespace llamita {
namespace {

struct Parsed {
  std::string content;
  std::vector<std::pair<std::string, std::string>> calls;  // name, arguments
  bool operator==(const Parsed&) const = default;
};

void add(const ParsedDelta& delta, Parsed& out) {
  out.content += delta.content;
  for (const ToolCallDelta& call : delta.calls) {
    if (!call.name.empty()) {
      EXPECT_EQ(call.index, static_cast<int>(out.calls.size()));
      out.calls.emplace_back(call.name, "");
    }
    ASSERT_EQ(call.index, static_cast<int>(out.calls.size()) - 1);
    out.calls.back().second += call.arguments;
  }
}

Parsed parse(ToolFormat format, std::string_view text, size_t piece, bool parallel = true) {
  const auto parser = make_tool_call_parser(format, parallel);
  Parsed out;
  for (size_t at = 0; at < text.size(); at += piece) add(parser->push(text.substr(at, piece)), out);
  add(parser->finish(), out);
  return out;
}

// Cut in every size, the meaning is the same.
void expect(ToolFormat format, std::string_view text, const Parsed& wanted, bool parallel = true) {
  for (size_t piece = 1; piece <= text.size(); ++piece) {
    const Parsed parsed = parse(format, text, piece, parallel);
    EXPECT_EQ(parsed.content, wanted.content) << text << " in pieces of " << piece;
    EXPECT_EQ(parsed.calls, wanted.calls) << text << " in pieces of " << piece;
  }
}

constexpr ToolFormat kHermes = ToolFormat::hermes, kLlama3 = ToolFormat::llama3;

TEST(HermesParser, FindsOneCall) {
  expect(kHermes,
         "<tool_call>\n{\"name\": \"sum\", \"arguments\": {\"a\": 1, \"b\": [2, \"}\"]}}\n</tool_call>",
         {"", {{"sum", "{\"a\": 1, \"b\": [2, \"}\"]}"}}});
}

TEST(HermesParser, FindsSeveralBetweenContent) {
  expect(kHermes,
         "Let me look.\n<tool_call>{\"arguments\":{\"q\":\"\\\"x\\\\\"},\"name\":\"find\"}</tool_call>\n"
         "<tool_call>{\"name\":\"now\",\"arguments\":{}}</tool_call> Done.",
         {"Let me look. Done.", {{"find", "{\"q\":\"\\\"x\\\\\"}"}, {"now", "{}"}}});
}

TEST(HermesParser, ArgumentsInAStringAreUnpacked) {
  expect(kHermes, "<tool_call>{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}</tool_call>",
         {"", {{"f", "{\"a\":1}"}}});
}

TEST(HermesParser, WhatIsNoCallIsContent) {
  for (const char* text :
       {"a < b <tool", "<tool_call>hello</tool_call>", "<tool_call>{\"nam\": 1}", "<tool_call>\n", " x \n",
        "<tool_call>{\"name\": 3, \"arguments\": {}}</tool_call>", "<tool_call>{}</tool_call>",
        "<tool_call>{\"na"}) {
    expect(kHermes, text, {text, {}});
  }
}

TEST(HermesParser, ACallThatIsCutOffStaysAsFarAsItCame) {
  expect(kHermes, "<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":[1,", {"", {{"f", "{\"a\":[1,"}}});
}

TEST(HermesParser, OneCallOnlyWhenNotParallel) {
  const char* text =
      "<tool_call>{\"name\":\"a\",\"arguments\":{}}</tool_call>"
      "<tool_call>{\"name\":\"b\",\"arguments\":{}}</tool_call>";
  expect(kHermes, text, {"", {{"a", "{}"}}}, false);
}

TEST(HermesParser, DeepArgumentsEndTheCall) {
  const std::string text = "<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":" + std::string(10000, '[');
  const Parsed parsed = parse(kHermes, text, 100);
  EXPECT_EQ(parsed.calls.size(), 1u);
}

TEST(Llama3Parser, FindsCalls) {
  expect(kLlama3, "{\"name\": \"sum\", \"parameters\": {\"a\": \"1\"}}", {"", {{"sum", "{\"a\": \"1\"}"}}});
  expect(kLlama3,
         "<|python_tag|>{\"type\":\"function\",\"name\":\"f\",\"parameters\":{}}; "
         "{\"name\":\"g\",\"parameters\":{\"x\":{}}}\n",
         {"", {{"f", "{}"}, {"g", "{\"x\":{}}"}}});
}

TEST(Llama3Parser, WhatIsNoCallIsContent) {
  for (const char* text : {"Hello {\"name\"", "{\"answer\": 42}", "{", "  {\"name\": \"f\"}", " hi", "<|pyth",
                           "{\"name\": \"f\", \"paramaters\": {}}x"}) {
    expect(kLlama3, text, {text, {}});
  }
}

TEST(Llama3Parser, OneCallOnlyWhenNotParallel) {
  expect(kLlama3, "{\"name\":\"a\",\"parameters\":{}};{\"name\":\"b\",\"parameters\":{}}",
         {"", {{"a", "{}"}}}, false);
}

}  // namespace
}  // namespace llamita
