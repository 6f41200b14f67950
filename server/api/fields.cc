#include "server/api/fields.h"

#include <algorithm>
#include <cmath>

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

std::optional<int64_t> whole_number(const Json& value) {
  if (value.is_integer()) return value.as_int("");
  if (!value.is_number()) return std::nullopt;
  const double number = value.as_double("");
  constexpr double kExact = 9007199254740992;  // 2^53
  if (!(std::abs(number) <= kExact) || number != std::floor(number)) return std::nullopt;
  return static_cast<int64_t>(number);
}

Fields::Fields(const Json& object, const FieldRules& rules) : object_(object_of(object, "")), rules_(rules) {}

Fields::Fields(const Json& object, std::string path, const Fields& outer)
    : object_(object_of(object, path)), path_(std::move(path)), rules_(outer.rules_) {}

std::string Fields::path_of(std::string_view name) const {
  return path_.empty() ? std::string(name) : cat(path_, ".", name);
}

const Json* Fields::find(std::string_view name, std::string_view type, std::optional<double> low,
                         std::optional<double> high) {
  if (rules_.asked != nullptr) rules_.asked->push_back({path_of(name), std::string(type), low, high});
  for (const auto& [key, value] : object_) {
    if (key != name) continue;
    known_.push_back(key);
    return value.is_null() ? nullptr : &value;
  }
  return nullptr;
}

const Json* Fields::take(std::string_view name) { return find(name, ""); }

std::optional<bool> Fields::boolean(std::string_view name) {
  const Json* value = find(name, "boolean");
  if (value == nullptr) return std::nullopt;
  if (!value->is_bool()) wrong(path_of(name), "true or false");
  return value->as_bool("");
}

std::optional<int64_t> Fields::integer(std::string_view name, int64_t low, int64_t high) {
  const Json* value = find(name, "integer", static_cast<double>(low), static_cast<double>(high));
  if (value == nullptr) return std::nullopt;
  const std::optional<int64_t> whole = whole_number(*value);
  if (!whole || *whole < low || *whole > high) {
    wrong(path_of(name), cat("an integer from ", low, " to ", high));
  }
  return whole;
}

std::optional<double> Fields::number(std::string_view name, double low, double high) {
  const Json* value = find(name, "number", low, high);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number() || !(value->as_double("") >= low && value->as_double("") <= high)) {
    wrong(path_of(name), cat("a number from ", low, " to ", high));
  }
  return value->as_double("");
}

std::optional<std::string> Fields::text(std::string_view name) {
  const Json* value = find(name, "string");
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

void Fields::finish() const {
  for (const auto& [name, value] : object_) {
    if (std::find(known_.begin(), known_.end(), name) != known_.end()) continue;
    const std::string shown = printable(name);
    const std::string where = path_.empty() ? "" : cat(" in ", path_);
    if (!rules_.lenient) {
      throw ApiError(400, cat("there is no field ", shown, where, " (--lenient lets the server ignore it)"),
                     path_of(shown.substr(1, shown.size() - 2)), "unknown_parameter");
    }
    if (rules_.warnings != nullptr)
      rules_.warnings->push_back(cat("ignored the unknown field ", shown, where));
  }
}

}  // namespace llamita::server
