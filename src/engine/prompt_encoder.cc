#include "engine/prompt_encoder.h"

#include <algorithm>
#include <string_view>

#include "base/cat.h"
#include "llamita/request_error.h"

namespace llamita {

namespace {

constexpr size_t kMostToolBytes = size_t{1} << 20;

// Marks where the last message ends in what the template made of it.
constexpr std::string_view kEndMark = "<~end of the last message 5f1b9c~>";

// Stands where a template might show a tool, a call or a result.
constexpr const char* kProbe = "llamita_probe_5f1b9c";

using Fault = RequestError::Fault;

Json parse_option(const std::string& text, const char* option) {
  Json::Limits limits;
  limits.bytes = kMostToolBytes;
  return Json::parse(text, option, limits);
}

Json::Object call_of(const ToolCall& call, bool arguments_as_object) {
  Json arguments(call.arguments);
  if (arguments_as_object) {
    arguments = parse_option(call.arguments.empty() ? "{}" : call.arguments, "the arguments of a tool call");
    arguments.as_object("the arguments of a tool call");
  }
  Json::Object function{{"name", Json(call.name)}, {"arguments", std::move(arguments)}};
  Json::Object out;
  if (!call.id.empty()) out.emplace_back("id", Json(call.id));
  out.emplace_back("type", Json(std::string("function")));
  out.emplace_back("function", Json(std::move(function)));
  return out;
}

// How the arguments of calls and the text of messages are shown to a template.
struct Shown {
  bool arguments_as_objects = true;
  bool content_in_parts = false;  // as templates of models that take images want it
};

// "…" -> [{"type": "image"}, {"type": "text", "text": "…"}]
Json content_parts(const Message& message) {
  Json::Array parts;
  const auto add_text = [&](size_t begin, size_t end) {
    if (begin == end) return;
    parts.emplace_back(Json::Object{{"type", Json(std::string("text"))},
                                    {"text", Json(message.content.substr(begin, end - begin))}});
  };
  size_t begin = 0;
  for (const Picture& picture : message.pictures) {
    const size_t at = std::clamp(picture.at, begin, message.content.size());
    add_text(begin, at);
    parts.emplace_back(Json::Object{{"type", Json(std::string("image"))}});
    begin = at;
  }
  add_text(begin, message.content.size());
  return Json(std::move(parts));
}

Json message_json(const Message& message, const Shown& shown) {
  Json::Object out{{"role", Json(message.role)},
                   {"content", shown.content_in_parts ? content_parts(message) : Json(message.content)}};
  if (!message.name.empty()) out.emplace_back("name", Json(message.name));
  if (!message.tool_call_id.empty()) out.emplace_back("tool_call_id", Json(message.tool_call_id));
  if (!message.tool_calls.empty()) {
    Json::Array calls;
    for (const ToolCall& call : message.tool_calls)
      calls.emplace_back(call_of(call, shown.arguments_as_objects));
    out.emplace_back("tool_calls", Json(std::move(calls)));
  }
  return Json(std::move(out));
}

Json messages_json(const Conversation& conversation, const Shown& shown) {
  Json::Array messages;
  for (const Message& message : conversation) messages.push_back(message_json(message, shown));
  return Json(std::move(messages));
}

bool calls_tools(const Conversation& conversation) {
  return std::any_of(conversation.begin(), conversation.end(),
                     [](const Message& message) { return !message.tool_calls.empty(); });
}

void require_size(const Conversation& conversation) {
  size_t bytes = 0;
  for (const Message& message : conversation) bytes += message.content.size();
  if (bytes <= ChatTemplate::kMostText) return;
  throw RequestError(Fault::prompt_size,
                     cat("the messages are too long: they have ", bytes, " bytes of text, and at most ",
                         ChatTemplate::kMostText, " are taken: shorten them"));
}

// Cuts the prompt where the last message's text ends: what the template adds after it would end the turn.
void cut_at_mark(std::vector<Piece>& pieces) {
  std::string text;
  for (const Piece& piece : pieces) text += piece.text;
  size_t length = text.rfind(kEndMark);
  if (length == std::string::npos) {
    throw Error("the reply cannot go on with the last message: the chat template does not show its text");
  }
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (length <= pieces[i].text.size()) {
      pieces[i].text.resize(length);
      pieces.resize(i + 1);
      return;
    }
    length -= pieces[i].text.size();
  }
}

}  // namespace

PromptEncoder::PromptEncoder(const Tokenizer& tokenizer, std::string image_text, size_t template_bytes)
    : tokenizer_(tokenizer), image_text_(std::move(image_text)) {
  const std::optional<std::string>& source = tokenizer.chat_template();
  if (!source) return;
  try {
    if (source->size() > template_bytes)
      throw Error(cat("it has ", source->size(), " bytes, and at most ", template_bytes, " are taken"));
    template_.emplace(*source);
  } catch (const Error& error) {
    template_error_ = cat("the model's chat template cannot be used: ", error.what());
    return;
  }
  places_ = find_places();
}

std::string PromptEncoder::special_text(std::optional<int32_t> token) const {
  return token ? std::string(tokenizer_.token_text(*token)) : "";
}

// Nothing when the template takes no such conversation.
std::optional<bool> PromptEncoder::shows(std::string_view mark, const Conversation& conversation,
                                         const ChatOptions& chat) const {
  try {
    std::string text;
    for (const Piece& piece : fill(conversation, chat)) text += piece.text;
    return text.find(mark) != std::string::npos;
  } catch (const Error&) {
    return std::nullopt;
  }
}

// By showing it a tool, a call and a result, because how templates spell their conditions has no end.
PromptEncoder::Places PromptEncoder::find_places() const {
  Places places;
  const Message question{"user", "a"};
  ChatOptions with_tool;
  with_tool.tools = cat(R"([{"type":"function","function":{"name":")", kProbe,
                        R"(","description":"a","parameters":{"type":"object","properties":{}}}}])");
  if (const auto shown = shows(kProbe, {question}, with_tool)) {
    places.tools = *shown;
  } else {
    places.tools = !shows("", {question});  // a template that takes words alone refuses tools
  }
  Message call{"assistant", ""}, result{"tool", kProbe};
  call.tool_calls = {{"probe0000", kProbe, "{}"}};  // Mistral's templates want ids of nine characters
  result.tool_call_id = "probe0000";
  places.calls = shows(kProbe, {question, call}).value_or(true);
  call.tool_calls[0].name = "a";
  places.results = shows(kProbe, {question, call, result}).value_or(true);
  return places;
}

void PromptEncoder::require_places(const Conversation& conversation, const ChatOptions& chat) const {
  if (!chat.tools.empty() && !places_.tools && !chat.call_forced) {
    throw RequestError(
        Fault::tools,
        "tools cannot be shown to this model, because its chat template has no place for them: "
        "leave them out, force a call, or choose a model that was made for tools");
  }
  if (calls_tools(conversation) && !places_.calls) {
    throw RequestError(Fault::messages,
                       "a message has tool_calls, which this model's chat template leaves out: say in the "
                       "message's content what was called");
  }
  const bool results = std::any_of(conversation.begin(), conversation.end(),
                                   [](const Message& message) { return message.role == "tool"; });
  if (results && !places_.results) {
    throw RequestError(Fault::messages,
                       "a message has the role tool, which this model's chat template leaves out: give the "
                       "result in a message of the user");
  }
}

std::vector<Piece> PromptEncoder::render(const Conversation& conversation, const ChatOptions& chat) const {
  if (!template_ && !template_error_.empty()) throw Error(template_error_);
  if (!template_) throw Error("the model's files carry no chat template: give the prompt as plain text");
  if (conversation.empty()) throw Error("the conversation has no messages: give at least one");
  require_size(conversation);
  std::vector<Piece> pieces = fill(conversation, chat);
  require_places(conversation, chat);
  return pieces;
}

std::vector<Piece> PromptEncoder::fill(const Conversation& conversation, const ChatOptions& chat) const {
  ChatTemplate::Options options;
  options.bos_token = special_text(tokenizer_.bos());
  options.eos_token = special_text(tokenizer_.eos());
  options.add_generation_prompt = !chat.continue_last;
  if (!chat.tools.empty()) {
    options.tools = parse_option(chat.tools, "tools");
    options.tools.as_array("tools");
  }
  if (!chat.template_variables.empty()) {
    options.extra =
        parse_option(chat.template_variables, "template_variables").as_object("template_variables");
  }
  Conversation marked;
  if (chat.continue_last) {
    marked = conversation;
    marked.back().content += kEndMark;
  }
  const Conversation& messages = chat.continue_last ? marked : conversation;
  const bool in_parts = !image_text_.empty();
  const Json as_objects = messages_json(messages, {true, in_parts});
  std::vector<Piece> pieces;
  try {
    pieces = template_->render(as_objects, options);
  } catch (const Error&) {
    if (!calls_tools(messages)) throw;
    // Templates that join the arguments to text fail on objects.
    pieces = template_->render(messages_json(messages, {false, in_parts}), options);
  }
  if (chat.continue_last) cut_at_mark(pieces);
  return pieces;
}

std::vector<Piece> PromptEncoder::with_pictures(const std::string& text,
                                                const std::vector<Picture>& pictures) const {
  std::vector<Piece> pieces;
  size_t begin = 0;
  for (const Picture& picture : pictures) {
    const size_t at = std::clamp(picture.at, begin, text.size());
    if (at > begin) pieces.push_back({text.substr(begin, at - begin), false});
    pieces.push_back({image_text_, true});
    begin = at;
  }
  if (begin < text.size()) pieces.push_back({text.substr(begin), false});
  return pieces;
}

std::vector<int32_t> PromptEncoder::encode(const Request& request) const {
  if (const auto* text = std::get_if<std::string>(&request.prompt)) {
    if (!request.pictures.empty()) return tokenizer_.encode(with_pictures(*text, request.pictures), true);
    return tokenizer_.encode(*text, true, false);
  }
  if (const auto* tokens = std::get_if<std::vector<int32_t>>(&request.prompt)) return *tokens;
  const std::vector<Piece> pieces = render(std::get<Conversation>(request.prompt), request.chat);
  // transformers' processors, unlike its tokenizers, let a BOS be put before what the template wrote, unless
  // it begins with one.
  const std::string bos = special_text(tokenizer_.bos());
  const bool has_bos = !pieces.empty() && !bos.empty() && pieces.front().text.starts_with(bos);
  return tokenizer_.encode(pieces, !image_text_.empty() && !has_bos);
}

}  // namespace llamita
