#include "formats/json.h"

#include <charconv>
#include <cmath>

#include "base/cat.h"
#include "llamita/error.h"

namespace llamita {

namespace {

// In the order of Json's variant.
constexpr std::string_view kKinds[] = {"null",     "a boolean", "an integer", "a number",
                                       "a string", "an array",  "an object"};

void dump_string(std::string_view text, std::string& out) {
  constexpr std::string_view kHex = "0123456789abcdef";
  out.push_back('"');
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    switch (c) {
      case '"': out.append("\\\""); break;
      case '\\': out.append("\\\\"); break;
      case '\n': out.append("\\n"); break;
      case '\r': out.append("\\r"); break;
      case '\t': out.append("\\t"); break;
      default:
        if (byte < 0x20) {
          out.append("\\u00").append({kHex[byte >> 4], kHex[byte & 15]});
        } else {
          out.push_back(c);
        }
    }
  }
  out.push_back('"');
}

// With a point or an exponent, so that a double reads back as a double. JSON has no word for infinity and
// NaN.
void dump_double(double value, std::string& out) {
  if (!std::isfinite(value)) {
    out.append("null");
    return;
  }
  const std::string digits = cat(value);
  out.append(digits);
  if (digits.find_first_of(".e") == std::string::npos) out.append(".0");
}

// Recursion as deep as the value, which is at most Limits::depth when it was parsed.
void dump_value(const Json& json, std::string& out) {
  if (json.is_null()) {
    out.append("null");
  } else if (json.is_bool()) {
    out.append(json.as_bool("") ? "true" : "false");
  } else if (json.is_integer()) {
    out.append(cat(json.as_int("")));
  } else if (json.is_number()) {
    dump_double(json.as_double(""), out);
  } else if (json.is_string()) {
    dump_string(json.as_string(""), out);
  } else if (json.is_array()) {
    char separator = '[';
    for (const Json& element : json.as_array("")) {
      out.push_back(separator);
      dump_value(element, out);
      separator = ',';
    }
    out.append(separator == '[' ? "[]" : "]");
  } else {
    char separator = '{';
    for (const auto& [key, member] : json.as_object("")) {
      out.push_back(separator);
      dump_string(key, out);
      out.push_back(':');
      dump_value(member, out);
      separator = ',';
    }
    out.append(separator == '{' ? "{}" : "}");
  }
}

}  // namespace

template <class T>
const T& Json::as(std::string_view what, std::string_view expected) const {
  const T* value = std::get_if<T>(&value_);
  if (value == nullptr) throw Error(cat(what, " should be ", expected, " but is ", kKinds[value_.index()]));
  return *value;
}

bool Json::as_bool(std::string_view what) const { return as<bool>(what, "a boolean"); }
int64_t Json::as_int(std::string_view what) const { return as<int64_t>(what, "an integer"); }
double Json::as_double(std::string_view what) const {
  if (const auto* integer = std::get_if<int64_t>(&value_)) return static_cast<double>(*integer);
  return as<double>(what, "a number");
}
const std::string& Json::as_string(std::string_view what) const { return as<std::string>(what, "a string"); }
const Json::Array& Json::as_array(std::string_view what) const { return as<Array>(what, "an array"); }
const Json::Object& Json::as_object(std::string_view what) const { return as<Object>(what, "an object"); }

const Json* Json::find(std::string_view key) const {
  const auto* members = std::get_if<Object>(&value_);
  if (members == nullptr) return nullptr;
  for (const auto& [name, member] : *members) {
    if (name == key) return &member;
  }
  return nullptr;
}

std::string Json::dump() const {
  std::string out;
  dump_value(*this, out);
  return out;
}

}  // namespace llamita
