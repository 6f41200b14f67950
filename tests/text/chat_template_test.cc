// The promises of chat templates: what Jinja2 prints is printed, what a user wrote stays marked, and no
// template can hurt the program that runs it.
#include "text/chat_template.h"

#include <ctime>
#include <thread>

#include "base/mapped_file.h"
#include "support/expect_error.h"

namespace llamita {
namespace {

const std::string kFolder = std::string(LLAMITA_SOURCE_DIR) + "/tests/golden/templates/";

std::string text_of(const std::vector<Piece>& pieces) {
  std::string out;
  for (const Piece& piece : pieces) out += piece.text;
  return out;
}

// Untrusted text stands inside [ ].
std::string marked(std::string_view source, std::string_view messages) {
  std::string out;
  for (const Piece& piece : ChatTemplate(source).render(Json::parse(messages, "messages"), {})) {
    out += piece.trusted ? piece.text : "[" + piece.text + "]";
  }
  return out;
}

std::string render(std::string_view source, std::string_view messages = "[]") {
  return text_of(ChatTemplate(source).render(Json::parse(messages, "messages"), {}));
}

ChatTemplate::Options options_of(const Json& input) {
  ChatTemplate::Options out;
  out.tools = *input.find("tools");
  for (const auto& [name, value] : input.find("options")->as_object("options")) {
    if (name == "add_generation_prompt") {
      out.add_generation_prompt = value.as_bool(name);
    } else if (name == "bos_token") {
      out.bos_token = value.as_string(name);
    } else if (name == "eos_token") {
      out.eos_token = value.as_string(name);
    } else if (name == "now") {
      out.now = value.as_int(name);
    } else {
      out.extra.emplace_back(name, value);
    }
  }
  return out;
}

class ChatTemplates : public ::testing::Test {
 protected:
  // Goldens hold dates in UTC.
  static void SetUpTestSuite() {
    ::setenv("TZ", "UTC", 1);
    ::tzset();
  }
};

TEST_F(ChatTemplates, PrintWhatJinja2Prints) {
  const Json goldens = Json::parse_file(kFolder + "goldens.json");
  int compared = 0;
  for (const Json& golden : goldens.as_array("goldens")) {
    const std::string name = golden.find("template")->as_string("template");
    const MappedFile file(kFolder + name);
    const std::string_view source(reinterpret_cast<const char*>(file.bytes().data()), file.size());
    const Json& input = *golden.find("input");
    const ChatTemplate chat(source);
    SCOPED_TRACE(name + " " + input.dump());
    ++compared;
    if (const Json* output = golden.find("output")) {
      EXPECT_EQ(text_of(chat.render(*input.find("messages"), options_of(input))),
                output->as_string("output"));
    } else {
      EXPECT_ERROR(chat.render(*input.find("messages"), options_of(input)), "chat template");
    }
  }
  EXPECT_GE(compared, 100);
}

TEST_F(ChatTemplates, KeepWhoWroteWhat) {
  const char* user = R"([{"role": "user", "content": " A<|end|>b,c "}])";
  EXPECT_EQ(marked("<s>{{ messages[0].content }}</s>", user), "<s>[ A<|end|>b,c ]</s>");
  EXPECT_EQ(marked("{{ ('<' + messages[0].content | trim + '>') | upper }}", user), "<[A<|END|>B,C]>");
  EXPECT_EQ(marked("{{ messages[0].content.split(',') | join('<,>') }}", user), "[ A<|end|>b]<,>[c ]");
  EXPECT_EQ(marked("{{ messages[0].content[1:3] ~ 'x' * 2 }}", user), "[A<]xx");
  EXPECT_EQ(marked("{{ messages[0].content.replace('<|end|>', '<ok>') }}", user), "[ A]<ok>[b,c ]");
  EXPECT_EQ(marked("{{ '%s!' % messages[0].role }}{{ '<{}>'.format(messages[0].role) }}", user),
            "[user]!<[user]>");
  EXPECT_EQ(marked("{{ messages[0] | tojson }}", user), R"([{"role": "user", "content": " A<|end|>b,c "}])");
  EXPECT_EQ(marked("{{ {'a': 'b'} | tojson }}{{ messages | length }}", user), R"({"a": "b"}1)");
  EXPECT_EQ(marked("{% for k in messages[0] %}{{ k }}{% endfor %}", user), "[rolecontent]");
  EXPECT_EQ(marked("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(messages[0].role) | indent }}", user),
            "<[user]>");
  EXPECT_EQ(marked("{{ messages[0].content | list | reverse | first }}{{ '<e>' }}", user), "[ ]<e>");
}

TEST_F(ChatTemplates, EveryByteOfAPromptIsInOnePieceOfItsTrust) {
  const auto pieces = ChatTemplate("{{ 'a' }}{{ 'b' }}{{ messages[0] }}{{ messages[1] }}c")
                          .render(Json::parse(R"(["x", "y"])", "messages"), {});
  ASSERT_EQ(pieces.size(), 3u);
  EXPECT_EQ(pieces[0].text, "ab");
  EXPECT_EQ(pieces[1].text, "xy");
  EXPECT_FALSE(pieces[1].trusted);
  EXPECT_TRUE(pieces[2].trusted);
}

TEST_F(ChatTemplates, ExtraVariablesCannotReplaceTheConversation) {
  ChatTemplate::Options options;
  options.extra.emplace_back("messages", Json(std::string("forged")));
  options.extra.emplace_back("add_generation_prompt", Json(std::string("forged")));
  options.extra.emplace_back("style", Json(std::string("<|calm|>")));
  const auto pieces = ChatTemplate("{{ messages }}{{ add_generation_prompt }}{{ style }}")
                          .render(Json(Json::Array{}), options);
  EXPECT_EQ(text_of(pieces), "[]True<|calm|>");
  EXPECT_FALSE(pieces.back().trusted);
}

TEST_F(ChatTemplates, SaysWhatATemplateRaises) {
  EXPECT_ERROR(render("\n\n{{ raise_exception('no system role') }}"), "line 3: no system role");
  EXPECT_ERROR(render("{{ missing.attribute }}"), "'missing' is undefined");
  EXPECT_ERROR(render("{{ messages.append(1) }}"), "unsafe");
  EXPECT_ERROR(render("{{ {}.update({}) }}"), "unsafe");
  EXPECT_ERROR(render("{{ 'x' | nothing_of_this_name }}"), "no filter named");
  EXPECT_EQ(render("{{ ''.__class__ }}"), "");
  EXPECT_ERROR(render("{{ ''.__class__.__mro__ }}"), "unsafe");
  EXPECT_ERROR(render("{{ namespace(_x=1) }}"), "underscore");
}

TEST_F(ChatTemplates, BrokenSourcesNameTheirPlace) {
  EXPECT_ERROR(ChatTemplate("a\n {{ 1 +"), "line 2");
  EXPECT_ERROR(ChatTemplate("{{ 'open }}"), "never closed");
  EXPECT_ERROR(ChatTemplate("{# open"), "never closed");
  EXPECT_ERROR(ChatTemplate("{% raw %} open"), "never closed");
  EXPECT_ERROR(ChatTemplate("{% if x %}"), "endif");
  EXPECT_ERROR(ChatTemplate("{% for x in y %}{% endif %}"), "no statement");
  EXPECT_ERROR(ChatTemplate("{{ (1] }}"), "closes nothing");
  EXPECT_ERROR(ChatTemplate("{% break %}"), "outside");
  EXPECT_ERROR(ChatTemplate("{% include 'x' %}"), "no statement");
  EXPECT_ERROR(ChatTemplate("{{ 99999999999999999999 }}"), "64 bits");
  EXPECT_ERROR(ChatTemplate("{% set true = 1 %}"), "assigned");
  EXPECT_ERROR(ChatTemplate("\xff\xfe"), "UTF-8");
  EXPECT_ERROR(ChatTemplate(std::string((size_t{1} << 20) + 1, 'x')), "at most");
}

std::string repeated(std::string_view text, size_t n) {
  std::string out;
  for (size_t i = 0; i < n; ++i) out += text;
  return out;
}

TEST_F(ChatTemplates, DepthIsBounded) {
  EXPECT_ERROR(ChatTemplate("{{ " + repeated("(", 100'000) + "1" + repeated(")", 100'000) + " }}"),
               "nested deeper");
  EXPECT_ERROR(ChatTemplate("{{ " + repeated("[", 100'000) + repeated("]", 100'000) + " }}"),
               "nested deeper");
  EXPECT_ERROR(ChatTemplate("{{ " + repeated("not ", 100'000) + "1 }}"), "nested deeper");
  EXPECT_ERROR(ChatTemplate("{{ " + repeated("-", 100'000) + "1 }}"), "nested deeper");
  EXPECT_ERROR(ChatTemplate("{{ 1" + repeated(" + 1", 100'000) + " }}"), "nested deeper");
  EXPECT_ERROR(ChatTemplate("{{ x" + repeated(".y", 100'000) + " }}"), "nested deeper");
  EXPECT_ERROR(ChatTemplate("{{ x" + repeated(" if 1 else 2", 10'000) + " }}"), "nested deeper");
  EXPECT_ERROR(ChatTemplate(repeated("{% if 1 %}", 10'000)), "nested deeper");
  EXPECT_ERROR(render("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"), "deeper");
  EXPECT_ERROR(render("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}"), "deeper");
  EXPECT_ERROR(
      render("{% set ns = namespace(l=[]) %}{% for i in range(1000) %}{% set ns.l = [ns.l] %}{% endfor %}"),
      "nested deeper");
}

TEST_F(ChatTemplates, WorkIsBounded) {
  EXPECT_ERROR(render("{% for i in range(10 ** 9) %}{% endfor %}"), "limited");
  EXPECT_ERROR(render("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"),
               "than");
  EXPECT_ERROR(render("{{ 'a' * 10 ** 9 }}"), "bytes");
  EXPECT_ERROR(render("{{ ['a'] * 10 ** 9 }}"), "bytes");
  EXPECT_ERROR(render("{{ 10 ** 10 ** 10 }}"), "64 bits");
  EXPECT_ERROR(render("{{ 9223372036854775807 + 1 }}"), "64 bits");
  EXPECT_ERROR(render("{{ '%1000000000d' % 1 }}"), "at most");
  EXPECT_ERROR(render("{{ '{:1000000000}'.format(1) }}"), "at most");
  EXPECT_ERROR(render("{{ 'x'.center(10 ** 12) }}"), "bytes");
  EXPECT_ERROR(
      render(
          "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}"),
      "bytes");
  EXPECT_ERROR(render("{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] "
                      "%}{% endfor %}{{ ns.l }}"),
               "than");
  EXPECT_ERROR(render("{% for i in range(9999) %}{{ 'x' * 1000 }}{% endfor %}"), "bytes");
}

TEST_F(ChatTemplates, SearchIsLinear) {
  const std::string text(size_t{1} << 20, 'a');
  const Json messages(Json::Array{Json(text)});
  const ChatTemplate chat(
      "{{ ('a' * 500000 + 'b') in messages[0] }}{{ messages[0].rfind('b' + 'a' * 500000) }}");
  EXPECT_EQ(text_of(chat.render(messages, {})), "False-1");
}

TEST_F(ChatTemplates, CyclesLeaveNothingBehind) {
  // Under AddressSanitizer a leak would fail this test.
  EXPECT_EQ(render("{% set ns = namespace() %}{% set ns.self = ns %}{% macro m() %}{{ m is callable }}{% "
                   "endmacro %}{{ m() }}"),
            "True");
  EXPECT_EQ(render("{% for x in [1, 2] %}{% if loop.changed(loop) %}{{ x }}{% endif %}{% endfor %}"), "1");
}

TEST_F(ChatTemplates, OneTemplateServesManyThreads) {
  const ChatTemplate chat("{% for m in messages %}<{{ m.role | upper }}>{% endfor %}");
  const Json messages = Json::parse(R"([{"role": "a"}, {"role": "b"}])", "messages");
  std::vector<std::string> got(4);
  std::vector<std::thread> threads;
  for (auto& out : got)
    threads.emplace_back([&] {
      for (int i = 0; i < 100; ++i) out = text_of(chat.render(messages, {}));
    });
  for (auto& thread : threads) thread.join();
  for (const auto& out : got) EXPECT_EQ(out, "<A><B>");
}

}  // namespace
}  // namespace llamita
