#include "engine/prompt_encoder.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"
#include "support/fake_model.h"

namespace llamita {
namespace {

class TemplateTokenizer : public test::FakeTokenizer {
 public:
  explicit TemplateTokenizer(std::string source) : FakeTokenizer(letters()), source_(std::move(source)) {}
  const std::optional<std::string>& chat_template() const override { return source_; }

 private:
  std::optional<std::string> source_;
};

std::string rendered(const std::string& source, const Conversation& conversation,
                     const ChatOptions& chat = {}) {
  const TemplateTokenizer tokenizer(source);
  const PromptEncoder encoder(tokenizer);
  std::string text;
  for (const Piece& piece : encoder.render(conversation, chat)) text += piece.text;
  return text;
}

constexpr const char* kChat =
    "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}";

TEST(PromptEncoder, MessagesHaveOpenAisShape) {
  Message call{"assistant", ""};
  call.tool_calls = {{"call_1", "weather", R"({"city":"Lima","days":2})"}, {"", "time", ""}};
  Message answer{"tool", "sunny"};
  answer.tool_call_id = "call_1";
  answer.name = "weather";
  EXPECT_EQ(rendered("{{ messages | tojson }}", {{"user", "hi"}, call, answer}),
            R"([{"role": "user", "content": "hi"}, )"
            R"({"role": "assistant", "content": "", "tool_calls": [{"id": "call_1", "type": "function", )"
            R"("function": {"name": "weather", "arguments": {"city": "Lima", "days": 2}}}, )"
            R"({"type": "function", "function": {"name": "time", "arguments": {}}}]}, )"
            R"({"role": "tool", "content": "sunny", "name": "weather", "tool_call_id": "call_1"}])");
  call.tool_calls[0].arguments = "Lima";
  EXPECT_ERROR(rendered(kChat, {{"user", "hi"}, call}), "arguments of a tool call");
  call.tool_calls[0].arguments = "[1]";
  EXPECT_ERROR(rendered(kChat, {{"user", "hi"}, call}), "arguments of a tool call");
}

TEST(PromptEncoder, TemplatesThatJoinArgumentsGetText) {
  Message call{"assistant", ""};
  call.tool_calls = {{"1", "weather", R"({"city": "Lima"})"}};
  EXPECT_EQ(rendered("{{ 'args: ' + messages[0].tool_calls[0].function.arguments }}", {call}),
            R"(args: {"city": "Lima"})");
  EXPECT_EQ(rendered("{{ messages[0].tool_calls[0].function.arguments.city }}", {call}), "Lima");
  EXPECT_ERROR(rendered("{{ raise_exception('no tools here') }}", {call}), "no tools here");
}

TEST(PromptEncoder, ToolsAndVariablesReachTheTemplate) {
  ChatOptions chat;
  chat.tools = R"([{"type":"function","function":{"name":"weather"}}])";
  chat.template_variables = R"({"enable_thinking":false,"messages":"mine"})";
  EXPECT_EQ(rendered("{{ tools[0].function.name }} {{ enable_thinking }} {{ messages[0].content }}",
                     {{"user", "hi"}}, chat),
            "weather False hi");
  EXPECT_EQ(rendered("{{ tools is none }}", {{"user", "hi"}}), "True");
  chat.tools = "{}";
  EXPECT_ERROR(rendered(kChat, {{"user", "hi"}}, chat), "tools");
  chat.tools = "[";
  EXPECT_ERROR(rendered(kChat, {{"user", "hi"}}, chat), "tools");
  chat.tools = "";
  chat.template_variables = "[]";
  EXPECT_ERROR(rendered(kChat, {{"user", "hi"}}, chat), "template_variables");
}

TEST(PromptEncoder, TheLastMessageCanGoOn) {
  const Conversation conversation{{"user", "name one"}, {"assistant", "A llama is</> a "}};
  ChatOptions chat;
  EXPECT_EQ(rendered(kChat, conversation, chat), "<user>name one</><assistant>A llama is</> a</><assistant>");
  chat.continue_last = true;
  EXPECT_EQ(rendered(kChat, conversation, chat), "<user>name one</><assistant>A llama is</> a ");
  EXPECT_ERROR(rendered("{{ messages[0].content }}", conversation, chat), "go on with the last message");
}

}  // namespace
}  // namespace llamita
