#include "server/api/tools.h"

#include <algorithm>

#include "base/cat.h"
#include "formats/printable.h"
#include "server/api/api_error.h"

namespace llamita::server {

namespace {

constexpr size_t kMostNameBytes = 64;

struct Tool {
  std::string name;
  Json parameters;
};

bool good_name(const std::string& name) {
  const auto good = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
  };
  return !name.empty() && name.size() <= kMostNameBytes && std::all_of(name.begin(), name.end(), good);
}

Tool read_tool(const Json& value, const std::string& path, const Fields& body) {
  Fields tool(value, path, body);
  if (tool.required_text("type") != "function") {
    throw ApiError(400, cat(path, ".type must be 'function'"), path + ".type");
  }
  const Json* function = tool.take("function");
  if (function == nullptr) throw ApiError(400, cat(path, ".function must be given"), path + ".function");
  Fields fields(*function, path + ".function", tool);
  Tool out{fields.required_text("name"), {}};
  if (!good_name(out.name)) {
    throw ApiError(400, cat(path, ".function.name must be 1 to 64 letters, digits, '_', '-' or '.'"),
                   path + ".function.name");
  }
  fields.text("description");
  fields.boolean("strict");
  if (const Json* parameters = fields.take("parameters")) {
    if (!parameters->is_object()) {
      throw ApiError(400, cat(path, ".function.parameters must be a JSON schema"),
                     path + ".function.parameters");
    }
    out.parameters = *parameters;
  }
  fields.finish();
  tool.finish();
  return out;
}

// "#/…" inside a schema that now stands at `place` of another. Depth is that of a parsed body.
Json moved(const Json& schema, const std::string& place) {
  if (schema.is_array()) {
    Json::Array out;
    for (const Json& entry : schema.as_array("")) out.push_back(moved(entry, place));
    return Json(std::move(out));
  }
  if (!schema.is_object()) return schema;
  Json::Object out;
  for (const auto& [key, value] : schema.as_object("")) {
    const bool local = key == "$ref" && value.is_string() && value.as_string("").rfind('#', 0) == 0;
    out.emplace_back(key, local ? Json(cat("#", place, value.as_string("").substr(1))) : moved(value, place));
  }
  return Json(std::move(out));
}

Json text(std::string_view value) { return Json(std::string(value)); }

// {"name": …, "arguments": {…}}, with the key that the model was trained on.
Json call_schema(const Tool& tool, const std::string& place, std::string_view key) {
  Json arguments = tool.parameters.is_null() || tool.parameters.as_object("").empty()
                       ? Json(Json::Object{{"type", text("object")}})
                       : moved(tool.parameters, cat(place, "/properties/", key));
  Json::Object properties{{"name", Json(Json::Object{{"const", Json(tool.name)}})},
                          {std::string(key), std::move(arguments)}};
  return Json(Json::Object{{"type", text("object")},
                           {"properties", Json(std::move(properties))},
                           {"required", Json(Json::Array{text("name"), text(key)})},
                           {"additionalProperties", Json(false)}});
}

std::string forced_schema(const std::vector<Tool>& tools, ToolFormat format) {
  const std::string_view key = format == ToolFormat::llama3 ? "parameters" : "arguments";
  if (tools.size() == 1) return call_schema(tools[0], "", key).dump();
  Json::Array options;
  for (size_t i = 0; i < tools.size(); ++i) options.push_back(call_schema(tools[i], cat("/anyOf/", i), key));
  return Json(Json::Object{{"anyOf", Json(std::move(options))}}).dump();
}

std::vector<Tool> read_list(const Json* value, int most, const Fields& body) {
  if (value == nullptr) return {};
  if (!value->is_array()) throw ApiError(400, "tools must be an array", "tools");
  const Json::Array& array = value->as_array("");
  if (array.size() > static_cast<size_t>(most)) {
    throw ApiError(400, cat("tools has ", array.size(), " entries; at most ", most, " are taken"), "tools");
  }
  std::vector<Tool> tools;
  for (size_t i = 0; i < array.size(); ++i) tools.push_back(read_tool(array[i], cat("tools[", i, "]"), body));
  return tools;
}

// The tool that tool_choice names; "" for the words.
std::string chosen_name(const Json& choice, const Fields& body) {
  Fields fields(choice, "tool_choice", body);
  if (fields.required_text("type") != "function") {
    throw ApiError(400, "tool_choice.type must be 'function'", "tool_choice.type");
  }
  const Json* function = fields.take("function");
  if (function == nullptr) throw ApiError(400, "tool_choice.function must be given", "tool_choice.function");
  Fields named(*function, "tool_choice.function", fields);
  std::string name = named.required_text("name");
  named.finish();
  fields.finish();
  return name;
}

}  // namespace

ToolUse read_tools(Fields& fields, int most, ToolFormat format) {
  ToolUse use;
  use.format = format;
  const Json* list = fields.take("tools");
  std::vector<Tool> tools = read_list(list, most, fields);
  use.parallel = fields.boolean("parallel_tool_calls").value_or(true);
  const Json* choice = fields.take("tool_choice");
  const std::string word = choice != nullptr && choice->is_string() ? choice->as_string("") : "";
  if (choice != nullptr && choice->is_string() && word != "none" && word != "auto" && word != "required") {
    throw ApiError(400, "tool_choice must be none, auto, required or name a function", "tool_choice");
  }
  const std::string name = choice != nullptr && !choice->is_string() ? chosen_name(*choice, fields) : "";
  use.forced = word == "required" || !name.empty();
  if (tools.empty()) {
    if (use.forced) throw ApiError(400, "tool_choice asks for a call, but no tools are given", "tool_choice");
    return use;
  }
  if (word == "none") return use;
  use.offered = true;
  use.json = list->dump();
  if (!use.forced) return use;
  if (!name.empty()) {
    const auto found =
        std::find_if(tools.begin(), tools.end(), [&](const Tool& tool) { return tool.name == name; });
    if (found == tools.end()) {
      throw ApiError(400, cat("tool_choice names ", printable(name), ", which is not among the tools"),
                     "tool_choice");
    }
    tools = {*found};
  }
  use.schema = forced_schema(tools, format);
  return use;
}

}  // namespace llamita::server
