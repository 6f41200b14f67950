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

TEST(PromptEncoder, TemplatesHaveALimit) {
  const TemplateTokenizer tokenizer(kChat);
  const size_t size = std::string_view(kChat).size();
  for (const size_t most : {size - 1, size, size + 1}) {
    const PromptEncoder encoder(tokenizer, "", most);
    EXPECT_EQ(encoder.has_chat_template(), most >= size);
    EXPECT_EQ(encoder.template_error().find("bytes") != std::string::npos, most < size);
  }
  for (const size_t bytes : {(size_t{1} << 20) - 1, size_t{1} << 20, (size_t{1} << 20) + 1}) {
    const TemplateTokenizer large(kChat + std::string(bytes - size, ' '));
    EXPECT_EQ(PromptEncoder(large).has_chat_template(), bytes <= size_t{1} << 20) << bytes;
  }
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

bool takes_tools(const std::string& source) {
  const TemplateTokenizer tokenizer(source);
  return PromptEncoder(tokenizer).takes_tools();
}

TEST(PromptEncoder, TakesToolsWhereTheTemplateShowsThem) {
  const std::string chat = kChat;
  EXPECT_FALSE(takes_tools(chat));
  EXPECT_FALSE(takes_tools(chat + "{% if tools %}use them{% endif %}")) << "their names are not said";
  EXPECT_FALSE(takes_tools(chat + "{% if tools %}{{ raise_exception('no tools') }}{% endif %}"));
  EXPECT_TRUE(takes_tools("{% if tools %}{{ tools | tojson }}{% endif %}" + chat));
  EXPECT_TRUE(takes_tools("{% for t in tools or [] %}{{ t.function.name }}{% endfor %}" + chat));
  // One that wants another beginning than the probe's: its requests show.
  EXPECT_TRUE(takes_tools("{% if messages[0].role != 'system' %}{{ raise_exception('system') }}{% endif %}"));
}

// What a template leaves out, a client would take for said.
TEST(PromptEncoder, NothingIsLeftOutSilently) {
  ChatOptions chat;
  chat.tools = R"([{"type":"function","function":{"name":"weather"}}])";
  Message call{"assistant", ""};
  call.tool_calls = {{"call_1", "weather", "{}"}};
  const Message result{"tool", "sunny"};
  EXPECT_ERROR(rendered(kChat, {{"user", "hi"}}, chat), "has no place for them");
  EXPECT_ERROR(rendered(kChat, {{"user", "hi"}, call}), "tool_calls");
  EXPECT_EQ(rendered(kChat, {{"user", "hi"}, result}), "<user>hi</><tool>sunny</><assistant>");
  const std::string two_roles =
      "{% for m in messages %}{% if m.role in ['user', 'assistant'] %}<{{ m.content }}>"
      "{% for c in m.tool_calls or [] %}{{ c.function.name }}{% endfor %}{% endif %}{% endfor %}";
  EXPECT_EQ(rendered(two_roles, {{"user", "hi"}, call}), "<hi><>weather");
  EXPECT_ERROR(rendered(two_roles, {{"user", "hi"}, call, result}), "role tool");
}

TEST(PromptEncoder, TextThatNoTemplateCanWriteIsTooLong) {
  const std::string text(ChatTemplate::kMostText + 1, 'a');
  EXPECT_ERROR(rendered(kChat, {{"user", text}}), "the messages are too long: they have 4194305 bytes");
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
