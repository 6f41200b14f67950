#include "server/api/token_request.h"

#include "base/cat.h"
#include "base/log.h"
#include "server/api/api_error.h"
#include "server/api/sampling_fields.h"

namespace llamita::server {

namespace {

void finish(const Fields& fields, const std::vector<std::string>& warnings) {
  fields.finish();
  for (const std::string& warning : warnings) log_warning(warning);
}

}  // namespace

TokenizeRequest parse_tokenize(std::string_view body, const ParseContext& context) {
  const Json json = parse_body(body, context.limits);
  std::vector<std::string> warnings;
  Fields fields(json, context.rules(warnings));
  TokenizeRequest out;
  out.model = fields.text("model");
  const auto prompt = fields.text("prompt");
  const auto content = fields.text("content");
  const auto special = fields.boolean("add_special_tokens");
  out.add_special = fields.boolean("add_special").value_or(prompt ? special.value_or(true) : false);
  finish(fields, warnings);
  if (!prompt && !content) throw ApiError(400, "prompt must be given, as a string", "prompt");
  if (prompt && content) throw ApiError(400, "prompt and content exclude each other", "content");
  out.text = prompt ? *prompt : *content;
  const size_t most = context.limits.token_text_bytes;
  if (out.text.size() > most) {
    throw ApiError(400, cat("the text has ", out.text.size(), " bytes; at most ", most, " are taken at once"),
                   prompt ? "prompt" : "content");
  }
  return out;
}

DetokenizeRequest parse_detokenize(std::string_view body, const ParseContext& context) {
  const Json json = parse_body(body, context.limits);
  std::vector<std::string> warnings;
  Fields fields(json, context.rules(warnings));
  DetokenizeRequest out;
  out.model = fields.text("model");
  const Json* list = fields.take("tokens");
  finish(fields, warnings);
  if (list == nullptr || !list->is_array()) {
    throw ApiError(400, "tokens must be an array of token ids", "tokens");
  }
  const size_t ids = list->as_array("").size(), most = context.limits.token_ids;
  if (ids > most) {
    throw ApiError(400, cat("tokens has ", ids, " ids; at most ", most, " are taken at once"), "tokens");
  }
  out.tokens = read_token_ids(list->as_array(""), "tokens", context);
  return out;
}

}  // namespace llamita::server
