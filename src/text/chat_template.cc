#include "text/chat_template.h"

#include <algorithm>

#include "llamita/error.h"
#include "text/jinja/budget.h"
#include "text/jinja/program.h"

namespace llamita {

namespace {

static_assert(ChatTemplate::kMostText == jinja::kMaxText);

using Variables = std::vector<std::pair<std::string, jinja::Value>>;

// The variables that Hugging Face's apply_chat_template gives to a template. An absent special token is
// undefined there, absent tools and documents are none.
Variables variables_of(const Json& messages, const ChatTemplate::Options& options) {
  Variables out;
  out.emplace_back("documents", jinja::Value());
  for (const auto& [name, value] : options.extra) {
    const auto earlier =
        std::find_if(out.begin(), out.end(), [&key = name](const auto& entry) { return entry.first == key; });
    jinja::Value converted = jinja::Value::from_json(value, false);
    if (earlier == out.end()) {
      out.emplace_back(name, std::move(converted));
    } else {
      earlier->second = std::move(converted);
    }
  }
  static constexpr std::string_view kOwn[] = {
      "messages",  "tools", "add_generation_prompt", "bos_token", "eos_token", "raise_exception",
      "namespace", "range", "strftime_now",          "dict"};
  out.erase(std::remove_if(out.begin(), out.end(),
                           [](const auto& entry) {
                             return std::find(std::begin(kOwn), std::end(kOwn), entry.first) !=
                                    std::end(kOwn);
                           }),
            out.end());
  out.emplace_back("messages", jinja::Value::from_json(messages, false));
  out.emplace_back("tools", jinja::Value::from_json(options.tools, false));
  out.emplace_back("add_generation_prompt", jinja::Value::boolean(options.add_generation_prompt));
  if (!options.bos_token.empty()) out.emplace_back("bos_token", jinja::Value::text(options.bos_token));
  if (!options.eos_token.empty()) out.emplace_back("eos_token", jinja::Value::text(options.eos_token));
  return out;
}

}  // namespace

ChatTemplate::ChatTemplate(std::string_view source)
    : program_(std::make_unique<const jinja::Program>(source)) {}
ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

std::vector<Piece> ChatTemplate::render(const Json& messages, const Options& options) const {
  const std::time_t seconds = options.now ? *options.now : std::time(nullptr);
  std::tm now{};
  localtime_r(&seconds, &now);
  Variables variables;
  try {
    variables = variables_of(messages, options);
  } catch (const jinja::Failure& failure) {
    throw Error(cat("chat template: ", failure.what()));
  }
  const jinja::Text text = program_->render(std::move(variables), now);
  std::vector<Piece> out;
  size_t begin = 0;
  for (const auto& run : text.runs()) {
    out.push_back({text.bytes().substr(begin, run.end - begin), run.trusted});
    begin = run.end;
  }
  return out;
}

}  // namespace llamita
