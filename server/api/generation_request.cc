#include "server/api/generation_request.h"

#include <algorithm>

#include "base/cat.h"
#include "formats/printable.h"
#include "server/api/api_error.h"
#include "server/api/sampling_fields.h"

namespace llamita::server {

namespace {

// A string, or an array of parts: texts, which are put together, and images between them.
void read_content(const Json& value, const std::string& path, const ParseContext& context,
                  const Fields& outer, Message& message, std::vector<RemoteImage>& remote) {
  if (value.is_string()) {
    message.content = value.as_string("");
    return;
  }
  if (!value.is_array()) throw ApiError(400, cat(path, " must be a string or an array of parts"), path);
  for (const Json& part : value.as_array("")) {
    Fields fields(part, path, outer);
    const std::string type = fields.required_text("type");
    if (type == "image_url" && context.limits.images.images == 0) {
      throw ApiError(400, cat(path, " has an image, and this server takes none (--max-images 0)"), path,
                     "unsupported_parameter");
    }
    if (type == "image_url" && context.takes_images) {
      const Json* image = fields.take("image_url");
      if (image == nullptr) throw ApiError(400, cat(path, " has a part without image_url"), path);
      if (message.pictures.size() >= static_cast<size_t>(context.limits.images.images)) {
        throw ApiError(400, cat(path, " has more than ", context.limits.images.images, " images"), path);
      }
      ImageSource source =
          read_image(*image, path, context.limits.images, static_cast<bool>(context.fetch_image));
      message.pictures.push_back({source.file, message.content.size()});
      if (!source.file) remote.push_back({0, message.pictures.size() - 1, std::move(source)});
      if (image->is_object()) {
        Fields inner(*image, path + ".image_url", fields);
        inner.take("url");
        inner.ignore({"detail"});
        inner.finish();
      }
      fields.finish();
      continue;
    }
    if (type != "text") {
      throw ApiError(400,
                     cat(path, " has a part of type ", printable(type), "; this model takes ",
                         context.takes_images ? "text and image_url" : "text only"),
                     path, "unsupported_parameter");
    }
    message.content += fields.required_text("text");
    fields.finish();
  }
}

ToolCall read_tool_call(const Json& value, const std::string& path, const Fields& message) {
  Fields call(value, path, message);
  call.text("type");
  call.take("index");
  ToolCall out;
  out.id = call.text("id").value_or("");
  const Json* function = call.take("function");
  if (function == nullptr) throw ApiError(400, cat(path, ".function must be given"), path);
  Fields fields(*function, path + ".function", call);
  out.name = fields.required_text("name");
  out.arguments = fields.text("arguments").value_or("{}");
  fields.finish();
  call.finish();
  return out;
}

Message read_message(const Json& value, const std::string& path, const ParseContext& context,
                     const Fields& body, std::vector<RemoteImage>& remote) {
  Fields fields(value, path, body);
  Message message;
  message.role = fields.required_text("role");
  if (message.role == "developer") message.role = "system";
  if (message.role != "system" && message.role != "user" && message.role != "assistant" &&
      message.role != "tool") {
    throw ApiError(400, cat(path, ".role must be system, developer, user, assistant or tool"),
                   path + ".role");
  }
  const bool assistant = message.role == "assistant";
  if (const Json* calls = assistant ? fields.take("tool_calls") : nullptr) {
    if (!calls->is_array()) throw ApiError(400, cat(path, ".tool_calls must be an array"), path);
    for (const Json& call : calls->as_array("")) {
      message.tool_calls.push_back(read_tool_call(call, cat(path, ".tool_calls"), fields));
    }
  }
  if (const Json* content = fields.take("content")) {
    read_content(*content, path + ".content", context, fields, message, remote);
  } else if (!assistant) {
    throw ApiError(400, cat(path, ".content must be given"), path + ".content");
  }
  if (message.role == "tool") message.tool_call_id = fields.text("tool_call_id").value_or("");
  message.name = fields.text("name").value_or("");
  fields.ignore({"refusal", "annotations", "reasoning_content"});
  fields.unsupported("audio", "null");
  fields.unsupported("function_call", "null", "use tool_calls");
  fields.finish();
  return message;
}

Conversation read_messages(Fields& fields, const ParseContext& context, std::vector<RemoteImage>& remote) {
  const Json* value = fields.take("messages");
  if (value == nullptr || !value->is_array() || value->as_array("").empty()) {
    throw ApiError(400, "messages must be an array of at least one message", "messages");
  }
  Conversation conversation;
  const Json::Array& array = value->as_array("");
  size_t images = 0;
  for (size_t i = 0; i < array.size(); ++i) {
    const size_t known = remote.size();
    conversation.push_back(read_message(array[i], cat("messages[", i, "]"), context, fields, remote));
    for (size_t at = known; at < remote.size(); ++at) remote[at].message = i;
    images += conversation.back().pictures.size();
    if (images > static_cast<size_t>(context.limits.images.images)) {
      throw ApiError(400, cat("messages have more than ", context.limits.images.images, " images"),
                     "messages");
    }
  }
  return conversation;
}

void read_chat_logprobs(Fields& fields, int most, GenerationRequest& out, SamplingParams& params) {
  out.logprobs = fields.boolean("logprobs").value_or(false);
  const auto top = fields.integer("top_logprobs", 0, most);
  if (top && !out.logprobs) throw ApiError(400, "top_logprobs needs logprobs: true", "top_logprobs");
  if (out.logprobs) params.logprobs = static_cast<int>(top.value_or(0));
}

void read_max_tokens(Fields& fields, const ParseContext& context, SamplingParams& params) {
  const int limit = context.most_reply_tokens();
  const auto most = fields.integer("max_completion_tokens", 1, limit);
  const auto deprecated = fields.integer("max_tokens", 1, limit);
  params.max_tokens = static_cast<int>(most.value_or(deprecated.value_or(context.unasked_reply_tokens)));
}

void refuse_chat_fields(Fields& fields) {
  fields.unsupported("functions", "[]", "use tools");
  fields.unsupported("function_call", "\"none\"", "use tool_choice");
  fields.unsupported("modalities", "[\"text\"]");
  fields.unsupported("audio", "null");
  fields.unsupported("prediction", "null");
  fields.unsupported("web_search_options", "null");
  fields.unsupported("reasoning_effort", "\"none\"");
  fields.unsupported("verbosity", "\"medium\"");
  fields.unsupported("best_of", "1", "use n");
}

}  // namespace

Json parse_body(std::string_view body, const ApiLimits& limits) {
  if (body.find_first_not_of(" \t\r\n") == std::string_view::npos) {
    throw ApiError(400, "the body is empty: a JSON object is expected", {}, "invalid_json");
  }
  try {
    return Json::parse(body, "the body", {SIZE_MAX, limits.body_depth, limits.body_values});
  } catch (const Error& error) {
    throw ApiError(400, error.what(), {}, "invalid_json");
  }
}

bool has_pictures(const GenerationRequest& request) {
  return std::any_of(request.requests.begin(), request.requests.end(), [](const Request& one) {
    const auto* conversation = std::get_if<Conversation>(&one.prompt);
    return conversation != nullptr &&
           std::any_of(conversation->begin(), conversation->end(),
                       [](const Message& message) { return !message.pictures.empty(); });
  });
}

GenerationRequest parse_chat(std::string_view body, const ParseContext& context) {
  const Json json = parse_body(body, context.limits);
  GenerationRequest out;
  Fields fields(json, context.rules(out.warnings));
  Request request;
  SamplingParams& params = request.sampling;
  request.prompt = read_messages(fields, context, out.remote);
  read_common(fields, context, out, params);
  read_chat_logprobs(fields, context.limits.logprobs, out, params);
  read_max_tokens(fields, context, params);
  out.tools = read_tools(fields, context.limits.tools, context.tool_format);
  request.chat.tools = out.tools.json;
  request.chat.call_forced = out.tools.forced;
  if (out.tools.forced) {
    if (params.constraint.kind != Constraint::Kind::none) {
      throw ApiError(400, "response_format has no effect on a forced tool call; leave one of them out",
                     "response_format");
    }
    params.constraint = {Constraint::Kind::json_schema, out.tools.schema};
  }
  if (const Json* variables = fields.take("chat_template_kwargs")) {
    if (!variables->is_object()) {
      throw ApiError(400, "chat_template_kwargs must be an object", "chat_template_kwargs");
    }
    request.chat.template_variables = variables->dump();
  }
  request.chat.continue_last = fields.boolean("continue_final_message").value_or(false);
  refuse_chat_fields(fields);
  fields.finish();
  out.requests.push_back(std::move(request));
  return out;
}

GenerationRequest parse_completion(std::string_view body, const ParseContext& context) {
  const Json json = parse_body(body, context.limits);
  GenerationRequest out;
  Fields fields(json, context.rules(out.warnings));
  out.endpoint = Endpoint::completions;
  SamplingParams params;
  params.max_tokens = 16;  // as OpenAI's
  const Json* prompt = fields.take("prompt");
  if (prompt == nullptr) throw ApiError(400, "prompt must be given", "prompt");
  const auto prompts = read_prompts(*prompt, "prompt", context);
  read_common(fields, context, out, params);
  params.max_tokens =
      static_cast<int>(fields.integer("max_tokens", 1, context.most_reply_tokens())
                           .value_or(std::min(params.max_tokens, context.most_reply_tokens())));
  if (const auto top = fields.integer("logprobs", 0, context.limits.logprobs)) {
    out.logprobs = true;
    params.logprobs = static_cast<int>(*top);
  }
  out.echo = fields.boolean("echo").value_or(false);
  if (out.echo && out.logprobs) {
    throw ApiError(400, "echo with logprobs is not supported: a prompt's probabilities are not computed",
                   "logprobs", "unsupported_parameter");
  }
  fields.unsupported("suffix", "\"\"");
  fields.unsupported("best_of", cat(out.n), "use n");
  fields.finish();
  if (prompts.size() * static_cast<size_t>(out.n) > static_cast<size_t>(context.limits.prompts)) {
    throw ApiError(400, cat("prompts times n must be at most ", context.limits.prompts), "n");
  }
  for (const Prompt& text : prompts) {
    Request request;
    request.sampling = params;
    std::visit([&](const auto& value) { request.prompt = value; }, text);
    out.requests.push_back(std::move(request));
  }
  return out;
}

GenerationRequest parse_embedding(std::string_view body, const ParseContext& context) {
  const Json json = parse_body(body, context.limits);
  GenerationRequest out;
  Fields fields(json, context.rules(out.warnings));
  out.endpoint = Endpoint::embeddings;
  out.model = fields.text("model");
  const Json* input = fields.take("input");
  if (input == nullptr) throw ApiError(400, "input must be given", "input");
  const std::string format = fields.text("encoding_format").value_or("float");
  if (format != "float" && format != "base64") {
    throw ApiError(400, "encoding_format must be float or base64", "encoding_format");
  }
  out.base64 = format == "base64";
  fields.unsupported("dimensions", "null", "embeddings have the model's own size");
  fields.ignore({"user"});
  fields.finish();
  for (const Prompt& text : read_prompts(*input, "input", context)) {
    if (std::visit([](const auto& value) { return value.empty(); }, text)) {
      throw ApiError(400, "input is empty, or has an entry that is: give at least one character", "input");
    }
    Request request;
    request.embedding = true;
    std::visit([&](const auto& value) { request.prompt = value; }, text);
    out.requests.push_back(std::move(request));
  }
  return out;
}

}  // namespace llamita::server
