#include "engine/prompt_encoder.h"

#include "base/cat.h"
#include "llamita/error.h"

namespace llamita {

PromptEncoder::PromptEncoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {
  const std::optional<std::string>& source = tokenizer.chat_template();
  if (!source) return;
  try {
    template_.emplace(*source);
  } catch (const Error& error) {
    template_error_ = cat("the model's chat template cannot be used: ", error.what());
  }
}

std::string PromptEncoder::special_text(std::optional<int32_t> token) const {
  return token ? std::string(tokenizer_.token_text(*token)) : "";
}

std::vector<Piece> PromptEncoder::render(const Conversation& conversation) const {
  if (!template_ && !template_error_.empty()) throw Error(template_error_);
  if (!template_) throw Error("the model's files carry no chat template: give the prompt as plain text");
  if (conversation.empty()) throw Error("the conversation has no messages: give at least one");
  Json::Array messages;
  for (const Message& message : conversation) {
    messages.push_back(Json(Json::Object{{"role", Json(message.role)}, {"content", Json(message.content)}}));
  }
  ChatTemplate::Options options;
  options.bos_token = special_text(tokenizer_.bos());
  options.eos_token = special_text(tokenizer_.eos());
  return template_->render(Json(std::move(messages)), options);
}

std::vector<int32_t> PromptEncoder::encode(const Request& request) const {
  if (const auto* text = std::get_if<std::string>(&request.prompt))
    return tokenizer_.encode(*text, true, false);
  if (const auto* tokens = std::get_if<std::vector<int32_t>>(&request.prompt)) return *tokens;
  return tokenizer_.encode(render(std::get<Conversation>(request.prompt)), false);
}

}  // namespace llamita
