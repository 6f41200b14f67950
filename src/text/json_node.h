// JsonNode: a JSON value that knows its place in its file, so that every complaint can name it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/cat.h"
#include "formats/json.h"
#include "llamita/error.h"

namespace llamita {

class JsonNode {
 public:
  // Borrows `json`. `where` is "tokenizer.json: model".
  JsonNode(const Json& json, std::string where) : json_(&json), where_(std::move(where)) {}

  const Json& json() const { return *json_; }
  const std::string& where() const { return where_; }

  // The member `key`; nothing when it is absent or null.
  std::optional<JsonNode> find(std::string_view key) const {
    const Json* member = json_->find(key);
    if (member == nullptr || member->is_null()) return std::nullopt;
    return JsonNode(*member, cat(where_, where_.ends_with(':') ? " " : ".", key));
  }
  JsonNode at(std::string_view key) const {
    auto member = find(key);
    if (!member) throw Error(cat(where_, ": \"", key, "\" is missing"));
    return *member;
  }
  std::vector<JsonNode> elements() const {
    std::vector<JsonNode> out;
    for (const Json& element : json_->as_array(where_))
      out.emplace_back(element, cat(where_, "[", out.size(), "]"));
    return out;
  }

  const std::string& text() const { return json_->as_string(where_); }
  const std::string& text(std::string_view key) const { return at(key).text(); }
  bool flag(std::string_view key, bool otherwise) const {
    const auto member = find(key);
    return member ? member->json().as_bool(member->where()) : otherwise;
  }

  [[noreturn]] void fail(const std::string& message) const { throw Error(cat(where_, ": ", message)); }

 private:
  const Json* json_;
  std::string where_;
};

}  // namespace llamita
