// Fields: the members of one JSON object of a request, each read once, typed and within bounds. What was not
// asked for by finish() is a field that the server does not know.
//
//   Fields body(json, {lenient, &warnings});
//   body.integer("n", 1, 8);
//   Fields options(*body.take("stream_options"), "stream_options", body);
//   options.finish();
//   body.finish();
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/json.h"

namespace llamita::server {

// A name that a parser asked for, and what it takes: openapi.json is compared with these.
struct AskedField {
  std::string path;  // "messages[0].role"
  std::string type;  // as JSON Schema calls it; "": any
  std::optional<double> low, high;
};

// What the objects of one body have in common.
struct FieldRules {
  bool lenient = false;                          // unknown fields are warned of, not refused
  std::vector<std::string>* warnings = nullptr;  // where; nullptr: nowhere
  std::vector<AskedField>* asked = nullptr;      // nullptr: nobody wants to know
};

// 3 and 3.0 are the same number in JSON; nothing for one that is none, or not exact as a double.
std::optional<int64_t> whole_number(const Json& value);

class Fields {
 public:
  // A whole body. Borrows `object`. Throws ApiError (400) when it is no object. So do all the readers below
  // for a value they do not take.
  explicit Fields(const Json& object, const FieldRules& rules = {});
  // An object inside another. `path` is what errors call it: "messages[2]", …
  Fields(const Json& object, std::string path, const Fields& outer);

  // The value; null and absent are the same: nullptr.
  const Json* take(std::string_view name);
  std::optional<bool> boolean(std::string_view name);
  std::optional<int64_t> integer(std::string_view name, int64_t low, int64_t high);
  std::optional<double> number(std::string_view name, double low, double high);
  std::optional<std::string> text(std::string_view name);
  std::string required_text(std::string_view name);

  // Known, and without effect on the answer.
  void ignore(std::initializer_list<std::string_view> names);
  // Known and not supported, unless its value is null, or `neutral` as JSON text.
  void unsupported(std::string_view name, std::string_view neutral, std::string_view instead = {});
  // Throws for the first field that nobody asked for, or, when lenient, warns of it.
  void finish() const;

  // "messages[2].content"
  std::string path_of(std::string_view name) const;

 private:
  const Json* find(std::string_view name, std::string_view type, std::optional<double> low = {},
                   std::optional<double> high = {});

  const Json::Object& object_;
  std::string path_;
  FieldRules rules_;
  std::vector<std::string_view> known_;
};

}  // namespace llamita::server
