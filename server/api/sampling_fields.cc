#include "server/api/sampling_fields.h"

#include <charconv>
#include <limits>

#include "base/cat.h"
#include "formats/printable.h"
#include "server/api/api_error.h"

namespace llamita::server {

namespace {

constexpr int64_t kMostTokens = std::numeric_limits<int32_t>::max();

void read_stop(Fields& fields, const ApiLimits& limits, SamplingParams& params) {
  const Json* value = fields.take("stop");
  if (value == nullptr) return;
  if (value->is_string()) {
    params.stop.push_back(value->as_string(""));
  } else if (value->is_array()) {
    for (const Json& stop : value->as_array("")) {
      if (!stop.is_string()) throw ApiError(400, "stop must be a string or an array of strings", "stop");
      params.stop.push_back(stop.as_string(""));
      if (params.stop.size() > static_cast<size_t>(limits.stops)) {
        throw ApiError(400, cat("stop has more than ", limits.stops, " strings"), "stop");
      }
    }
  } else {
    throw ApiError(400, "stop must be a string or an array of strings", "stop");
  }
  for (const std::string& stop : params.stop) {
    if (stop.empty() || stop.size() > limits.stop_bytes) {
      throw ApiError(
          400, cat("a stop string must have 1 to ", limits.stop_bytes, " bytes, not ", stop.size()), "stop");
    }
  }
}

void read_logit_bias(Fields& fields, const ParseContext& context, SamplingParams& params) {
  const Json* value = fields.take("logit_bias");
  if (value == nullptr) return;
  if (!value->is_object()) throw ApiError(400, "logit_bias must be an object of token ids", "logit_bias");
  if (value->as_object("").size() > SamplingParams::kMostBiases) {
    throw ApiError(400, cat("logit_bias has more than ", SamplingParams::kMostBiases, " tokens"),
                   "logit_bias");
  }
  for (const auto& [id, bias] : value->as_object("")) {
    int32_t token = 0;
    const auto parsed = std::from_chars(id.data(), id.data() + id.size(), token);
    if (parsed.ec != std::errc() || parsed.ptr != id.data() + id.size() || token < 0 ||
        token > context.last_token()) {
      throw ApiError(400, cat("logit_bias: ", printable(id), " is no id of the vocabulary"), "logit_bias");
    }
    if (!bias.is_number() || !(bias.as_double("") >= -100 && bias.as_double("") <= 100)) {
      throw ApiError(400, cat("logit_bias of token ", token, " must be a number from -100 to 100"),
                     "logit_bias");
    }
    params.logit_bias.emplace_back(token, static_cast<float>(bias.as_double("")));
  }
}

void read_schema(Fields& format, const ApiLimits& limits, Constraint& constraint) {
  const Json* wrapper = format.take("json_schema");
  if (wrapper == nullptr) {
    throw ApiError(400, "response_format.json_schema must be given for type json_schema",
                   "response_format.json_schema");
  }
  Fields inner(*wrapper, "response_format.json_schema", format);
  inner.ignore({"name", "description", "strict"});
  const Json* schema = inner.take("schema");
  if (schema == nullptr) {
    throw ApiError(400, "response_format.json_schema.schema must be given",
                   "response_format.json_schema.schema");
  }
  constraint = {Constraint::Kind::json_schema, schema->dump()};
  if (constraint.text.size() > limits.schema_bytes) {
    throw ApiError(
        400,
        cat("the schema has ", constraint.text.size(), " bytes; at most ", limits.schema_bytes, " are taken"),
        "response_format.json_schema.schema");
  }
  inner.finish();
}

void read_response_format(Fields& fields, const ApiLimits& limits, Constraint& constraint) {
  if (const Json* value = fields.take("response_format")) {
    Fields format(*value, "response_format", fields);
    const std::string type = format.required_text("type");
    if (type == "json_object") {
      constraint = {Constraint::Kind::json_object, ""};
    } else if (type == "json_schema") {
      read_schema(format, limits, constraint);
    } else if (type != "text") {
      throw ApiError(400, "response_format.type must be text, json_object or json_schema",
                     "response_format.type");
    }
    format.finish();
  }
  if (const auto grammar = fields.text("grammar")) {
    if (constraint.kind != Constraint::Kind::none) {
      throw ApiError(400, "grammar and response_format exclude each other", "grammar");
    }
    if (grammar->size() > limits.schema_bytes) {
      throw ApiError(
          400, cat("grammar has ", grammar->size(), " bytes; at most ", limits.schema_bytes, " are taken"),
          "grammar");
    }
    constraint = {Constraint::Kind::gbnf, *grammar};
  }
}

void read_stream(Fields& fields, GenerationRequest& out) {
  out.stream = fields.boolean("stream").value_or(false);
  const Json* options = fields.take("stream_options");
  if (options == nullptr) return;
  if (!out.stream) throw ApiError(400, "stream_options is for stream: true only", "stream_options");
  Fields inner(*options, "stream_options", fields);
  out.include_usage = inner.boolean("include_usage").value_or(false);
  inner.ignore({"include_obfuscation"});
  inner.finish();
}

}  // namespace

std::vector<int32_t> read_token_ids(const Json::Array& array, const std::string& name,
                                    const ParseContext& context) {
  std::vector<int32_t> tokens;
  tokens.reserve(array.size());
  for (const Json& token : array) {
    const std::optional<int64_t> id = whole_number(token);
    if (!id || *id < 0 || *id > context.last_token()) {
      throw ApiError(400, cat(name, " has an entry that is no id of the vocabulary"), name);
    }
    tokens.push_back(static_cast<int32_t>(*id));
  }
  return tokens;
}

void read_common(Fields& fields, const ParseContext& context, GenerationRequest& out,
                 SamplingParams& params) {
  const ApiLimits& limits = context.limits;
  out.model = fields.text("model");
  read_stream(fields, out);
  out.n = static_cast<int>(fields.integer("n", 1, limits.choices).value_or(1));
  params.n = out.n;
  params.temperature = static_cast<float>(fields.number("temperature", 0, 2).value_or(1));
  params.top_p = static_cast<float>(fields.number("top_p", 0, 1).value_or(1));
  // 0 asks for the most probable token alone; the engine takes probabilities above 0.
  if (params.top_p <= 0) params.top_p = std::numeric_limits<float>::min();
  params.top_k = static_cast<int>(std::max<int64_t>(0, fields.integer("top_k", -1, kMostTokens).value_or(0)));
  params.min_p = static_cast<float>(fields.number("min_p", 0, 1).value_or(0));
  params.repetition_penalty = static_cast<float>(fields.number("repetition_penalty", 0.01, 100).value_or(1));
  params.frequency_penalty = static_cast<float>(fields.number("frequency_penalty", -2, 2).value_or(0));
  params.presence_penalty = static_cast<float>(fields.number("presence_penalty", -2, 2).value_or(0));
  if (const auto seed =
          fields.integer("seed", std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max())) {
    params.seed = static_cast<uint64_t>(*seed);
  }
  read_stop(fields, limits, params);
  if (const Json* tokens = fields.take("stop_token_ids")) {
    if (!tokens->is_array())
      throw ApiError(400, "stop_token_ids must be an array of token ids", "stop_token_ids");
    params.stop_token_ids = read_token_ids(tokens->as_array(""), "stop_token_ids", context);
  }
  params.ignore_eos = fields.boolean("ignore_eos").value_or(false);
  read_logit_bias(fields, context, params);
  read_response_format(fields, limits, params.constraint);
  out.priority = static_cast<int>(fields.integer("priority", -1000, 1000).value_or(0));
  fields.ignore({"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
                 "prompt_cache_retention"});
}

std::vector<Prompt> read_prompts(const Json& value, const std::string& name, const ParseContext& context) {
  const int most = context.limits.prompts;
  if (value.is_string()) return {value.as_string("")};
  if (!value.is_array() || value.as_array("").empty()) {
    throw ApiError(400, cat(name, " must be a string, an array of strings, or token ids, and not empty"),
                   name);
  }
  const Json::Array& array = value.as_array("");
  if (array[0].is_number()) return {read_token_ids(array, name, context)};
  if (array.size() > static_cast<size_t>(most)) {
    throw ApiError(400, cat(name, " has ", array.size(), " prompts; at most ", most, " are taken"), name);
  }
  std::vector<Prompt> prompts;
  for (const Json& entry : array) {
    if (entry.is_string()) {
      prompts.emplace_back(entry.as_string(""));
    } else if (entry.is_array()) {
      prompts.emplace_back(read_token_ids(entry.as_array(""), name, context));
    } else {
      throw ApiError(400, cat(name, " must hold strings or arrays of token ids"), name);
    }
  }
  return prompts;
}

}  // namespace llamita::server
