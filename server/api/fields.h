// Fields: the members of one JSON object of a request, each read once, typed and within bounds. What was not
// read by finish() is a field that the server does not know.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/json.h"

namespace llamita::server {

class Fields {
 public:
  // Borrows `object`. `path` is what errors call it: "" for the body, "messages[2]", …
  // Throws ApiError (400) when it is no object. So do all the readers below for a value they do not take.
  explicit Fields(const Json& object, std::string path = {});

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
  // Throws for the first field that nobody took, or, when `lenient`, adds a sentence to `warnings`.
  void finish(bool lenient, std::vector<std::string>& warnings) const;

  // "messages[2].content"
  std::string path_of(std::string_view name) const;

 private:
  const Json::Object& object_;
  std::string path_;
  std::vector<std::string_view> known_;
};

}  // namespace llamita::server
