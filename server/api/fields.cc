#include "server/api/fields.h"

#include <algorithm>

#include "base/cat.h"
#include "formats/printable.h"
#include "server/api/api_error.h"

namespace llamita::server {

namespace {

const Json::Object& object_of(const Json& json, const std::string& path) {
  if (json.is_object()) return json.as_object("");
  throw ApiError(400, cat(path.empty() ? "the body" : path, " must be a JSON object"), path);
}

[[noreturn]] void wrong(const std::string& path, std::string_view expected) {
  throw ApiError(400, cat(path, " must be ", expected), path);
}

}  // namespace

Fields::Fields(const Json& object, std::string path)
    : object_(object_of(object, path)), path_(std::move(path)) {}

std::string Fields::path_of(std::string_view name) const {
  return path_.empty() ? std::string(name) : cat(path_, ".", name);
}

const Json* Fields::take(std::string_view name) {
  for (const auto& [key, value] : object_) {
    if (key != name) continue;
    known_.push_back(key);
    return value.is_null() ? nullptr : &value;
  }
  return nullptr;
}

std::optional<bool> Fields::boolean(std::string_view name) {
  const Json* value = take(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_bool()) wrong(path_of(name), "true or false");
  return value->as_bool("");
}

std::optional<int64_t> Fields::integer(std::string_view name, int64_t low, int64_t high) {
  const Json* value = take(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_integer() || value->as_int("") < low || value->as_int("") > high) {
    wrong(path_of(name), cat("an integer from ", low, " to ", high));
  }
  return value->as_int("");
}

std::optional<double> Fields::number(std::string_view name, double low, double high) {
  const Json* value = take(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number() || !(value->as_double("") >= low && value->as_double("") <= high)) {
    wrong(path_of(name), cat("a number from ", low, " to ", high));
  }
  return value->as_double("");
}

std::optional<std::string> Fields::text(std::string_view name) {
  const Json* value = take(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) wrong(path_of(name), "a string");
  return value->as_string("");
}

std::string Fields::required_text(std::string_view name) {
  auto value = text(name);
  if (!value) wrong(path_of(name), "given, as a string");
  return *std::move(value);
}

void Fields::ignore(std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) take(name);
}

void Fields::unsupported(std::string_view name, std::string_view neutral, std::string_view instead) {
  const Json* value = take(name);
  if (value == nullptr || value->dump() == neutral) return;
  throw ApiError(400,
                 cat(path_of(name), " is not supported by this server", instead.empty() ? "" : "; ", instead),
                 path_of(name), "unsupported_parameter");
}

void Fields::finish(bool lenient, std::vector<std::string>& warnings) const {
  for (const auto& [name, value] : object_) {
    if (std::find(known_.begin(), known_.end(), name) != known_.end()) continue;
    const std::string shown = printable(name);
    if (!lenient) {
      throw ApiError(400,
                     cat("there is no field ", shown, path_.empty() ? "" : " in ", path_,
                         " (--lenient lets the server ignore it)"),
                     path_of(shown.substr(1, shown.size() - 2)), "unknown_parameter");
    }
    warnings.push_back(cat("ignored the unknown field ", shown, path_.empty() ? "" : " in ", path_));
  }
}

}  // namespace llamita::server
