#include "server/api/openapi.h"

#include <map>

#include "server/web_files.h"

namespace llamita::server {

namespace {

// By the value of x-flag or x-model: the bound that stands beside it.
using Bounds = std::map<std::string, Json>;

Bounds bounds_of(const OpenApiFacts& facts) {
  const ApiLimits& limits = facts.limits;
  const auto number = [](auto value) { return Json(static_cast<int64_t>(value)); };
  Bounds bounds{{"--max-n", number(limits.choices)},
                {"--max-prompts", number(limits.prompts)},
                {"--max-stops", number(limits.stops)},
                {"--max-stop-bytes", number(limits.stop_bytes)},
                {"--max-schema-bytes", number(limits.schema_bytes)},
                {"--max-tools", number(limits.tools)},
                {"--max-token-text-bytes", number(limits.token_text_bytes)},
                {"--max-token-ids", number(limits.token_ids)},
                {"--max-logprobs", number(limits.logprobs)}};
  if (limits.reply_tokens > 0) bounds.emplace("--max-reply-tokens", number(limits.reply_tokens));
  if (facts.vocab_size > 0) bounds.emplace("last token", number(facts.vocab_size - 1));
  if (!facts.model_names.empty()) {
    Json::Array names{Json()};
    for (const std::string& name : facts.model_names) names.push_back(Json(name));
    bounds.emplace("--served-model-name", Json(std::move(names)));
  }
  return bounds;
}

// The depth is that of a file that we wrote.
Json bounded(const Json& json, const Bounds& bounds) {
  if (json.is_array()) {
    Json::Array out;
    for (const Json& entry : json.as_array("")) out.push_back(bounded(entry, bounds));
    return Json(std::move(out));
  }
  if (!json.is_object()) return json;
  const Json* mark = json.find("x-flag");
  if (mark == nullptr) mark = json.find("x-model");
  const auto bound = mark == nullptr ? bounds.end() : bounds.find(mark->as_string("x-flag"));
  Json::Object out;
  for (const auto& [key, value] : json.as_object("")) {
    const bool replaced =
        bound != bounds.end() && (key == "maximum" || key == "maxItems" || key == "maxLength");
    out.emplace_back(key, replaced ? bound->second : bounded(value, bounds));
  }
  if (bound != bounds.end() && bound->second.is_array()) out.emplace_back("enum", bound->second);
  return Json(std::move(out));
}

}  // namespace

Json openapi_template() {
  return Json::parse(find_web_file("/openapi.json")->content, "openapi.json", {SIZE_MAX, 64, 1 << 20});
}

Json openapi_document(const OpenApiFacts& facts) {
  const Json document = bounded(openapi_template(), bounds_of(facts));
  Json::Object out;
  for (const auto& [key, value] : document.as_object("")) {
    if (key != "info") {
      out.emplace_back(key, value);
      continue;
    }
    Json::Object info;
    for (const auto& [name, text] : value.as_object("")) {
      info.emplace_back(name, name == "version" ? Json(facts.version) : text);
    }
    out.emplace_back(key, Json(std::move(info)));
    if (facts.keys) {
      out.emplace_back("security", Json(Json::Array{Json(Json::Object{{"key", Json(Json::Array{})}})}));
    }
  }
  return Json(std::move(out));
}

}  // namespace llamita::server
