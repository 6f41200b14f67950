#include "text/grammar/schema_flatten.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "base/cat.h"
#include "llamita/error.h"

namespace llamita::grammar {

namespace {

constexpr size_t kMaxParts = 256;  // of one allOf, with all that its parts refer to

constexpr std::array kAnnotations = {"title",    "description", "default",       "examples",
                                     "example",  "$schema",     "$id",           "$comment",
                                     "$anchor",  "$defs",       "definitions",   "deprecated",
                                     "readOnly", "writeOnly",   "discriminator", "strict"};

// Keyword -> the type it speaks of.
constexpr std::array<std::pair<std::string_view, std::string_view>, 23> kKeywords = {{
    {"type", ""},
    {"enum", ""},
    {"const", ""},
    {"anyOf", ""},
    {"oneOf", ""},
    {"properties", "object"},
    {"required", "object"},
    {"additionalProperties", "object"},
    {"minProperties", "object"},
    {"maxProperties", "object"},
    {"items", "array"},
    {"prefixItems", "array"},
    {"minItems", "array"},
    {"maxItems", "array"},
    {"uniqueItems", "array"},
    {"minLength", "string"},
    {"maxLength", "string"},
    {"pattern", "string"},
    {"format", "string"},
    {"minimum", "number"},
    {"maximum", "number"},
    {"exclusiveMinimum", "number"},
    {"exclusiveMaximum", "number"},
}};

bool known(std::string_view keyword) {
  return std::any_of(kKeywords.begin(), kKeywords.end(), [&](const auto& k) { return k.first == keyword; });
}

Json both_of(const Json& a, const Json& b) { return Json(Json::Object{{"allOf", Json(Json::Array{a, b})}}); }

bool contains(const Json::Array& list, const Json& value) {
  const std::string text = value.dump();
  return std::any_of(list.begin(), list.end(), [&](const Json& other) { return other.dump() == text; });
}

Json::Array as_list(const Json& value) {
  if (value.is_array()) return value.as_array("list");
  return {value};
}

[[noreturn]] void contradiction(std::string_view keyword) {
  throw Error(cat("the schema asks for two different '", keyword,
                  "' at one place, which is not supported: join them into one"));
}

Json merged_properties(const Json& a, const Json& b) {
  Json::Object out = a.as_object("properties");
  for (const auto& [name, schema] : b.as_object("properties")) {
    const auto same =
        std::find_if(out.begin(), out.end(), [&wanted = name](const auto& p) { return p.first == wanted; });
    if (same == out.end()) {
      out.emplace_back(name, schema);
    } else if (same->second.dump() != schema.dump()) {
      same->second = both_of(same->second, schema);
    }
  }
  return Json(std::move(out));
}

Json merged_lists(std::string_view keyword, const Json& a, const Json& b) {
  const bool all = keyword == "required";  // every one of both; else what is in both
  Json::Array out = all ? as_list(a) : Json::Array{};
  for (const Json& value : as_list(b)) {
    if (all ? !contains(out, value) : contains(as_list(a), value)) out.push_back(value);
  }
  // An integer is a number too.
  if (keyword == "type") {
    const Json integer(std::string("integer")), number(std::string("number"));
    const bool left = contains(as_list(a), integer) && contains(as_list(b), number);
    const bool right = contains(as_list(b), integer) && contains(as_list(a), number);
    if ((left || right) && !contains(out, integer) && !contains(out, number)) out.push_back(integer);
  }
  if (!all && out.empty())
    throw Error(cat("nothing can satisfy the schema: its parts share no '", keyword, "'"));
  return Json(std::move(out));
}

Json merged_value(std::string_view keyword, const Json& a, const Json& b) {
  if (a.dump() == b.dump()) return a;
  const auto greater = [&] { return a.as_double(keyword) >= b.as_double(keyword); };
  if (keyword == "properties") return merged_properties(a, b);
  if (keyword == "required" || keyword == "type" || keyword == "enum") return merged_lists(keyword, a, b);
  if (keyword.starts_with("min") || keyword == "exclusiveMinimum") return greater() ? a : b;
  if (keyword.starts_with("max") || keyword == "exclusiveMaximum") return greater() ? b : a;
  if (keyword == "items" || keyword == "additionalProperties") {
    for (const auto& [one, other] : {std::pair(&a, &b), std::pair(&b, &a)}) {
      if (one->is_bool()) return one->as_bool(keyword) ? *other : *one;
    }
    return both_of(a, b);
  }
  contradiction(keyword);
}

void merge_keyword(Json::Object& out, const std::string& keyword, const Json& value) {
  if (!known(keyword)) {
    throw Error(cat("the schema's keyword '", keyword.substr(0, 64),
                    "' is not supported: leave it out and check it on the result"));
  }
  const auto same = std::find_if(out.begin(), out.end(), [&](const auto& k) { return k.first == keyword; });
  if (same == out.end()) {
    out.emplace_back(keyword, value);
  } else {
    same->second = merged_value(keyword, same->second, value);
  }
}

// A part that closes its object must know every property of the whole, or the parts contradict each other.
void check_closed(const std::vector<Json::Object>& parts, const Json::Object& whole) {
  const Json* all = find_keyword(whole, "properties");
  if (parts.size() < 2 || all == nullptr) return;
  for (const Json::Object& part : parts) {
    const Json* others = find_keyword(part, "additionalProperties");
    if (others == nullptr || (others->is_bool() && others->as_bool("additionalProperties"))) continue;
    const Json* own = find_keyword(part, "properties");
    for (const auto& [name, schema] : all->as_object("properties")) {
      if (own == nullptr || own->find(name) == nullptr) {
        throw Error(cat("one part of an allOf or anyOf limits additionalProperties without property '",
                        name.substr(0, 64), "' that another part has: list the property in both"));
      }
    }
  }
}

}  // namespace

const Json* find_keyword(const Json::Object& schema, std::string_view keyword) {
  for (const auto& [name, value] : schema) {
    if (name == keyword) return &value;
  }
  return nullptr;
}

bool is_annotation(std::string_view keyword) {
  return keyword.starts_with("x-") ||
         std::find(kAnnotations.begin(), kAnnotations.end(), keyword) != kAnnotations.end();
}

const Json& resolve_reference(const Json& root, const std::string& reference) {
  const auto fail = [&]() -> const Json& {
    throw Error(cat("the schema's $ref '", reference.substr(0, 128),
                    "' leads nowhere: expected a JSON pointer into the same schema, such as #/$defs/name"));
  };
  if (reference.empty() || reference[0] != '#') return fail();
  const Json* at = &root;
  for (size_t begin = 1; begin < reference.size();) {
    if (reference[begin] != '/') return fail();
    size_t end = reference.find('/', begin + 1);
    if (end == std::string::npos) end = reference.size();
    std::string name = reference.substr(begin + 1, end - begin - 1);
    for (size_t i = 0; (i = name.find('~', i)) != std::string::npos; ++i) {
      if (name.compare(i, 2, "~0") != 0 && name.compare(i, 2, "~1") != 0) return fail();
      name.replace(i, 2, name[i + 1] == '0' ? "~" : "/");
    }
    if (at->is_array()) {
      size_t index = 0;
      const auto [stop, error] = std::from_chars(name.data(), name.data() + name.size(), index);
      const auto& list = at->as_array("$ref");
      if (error != std::errc() || stop != name.data() + name.size() || index >= list.size()) return fail();
      at = &list[index];
    } else {
      at = at->find(name);
    }
    if (at == nullptr) return fail();
    begin = end;
  }
  return *at;
}

Json::Object flattened(const Json& root, const Json& schema) {
  std::vector<const Json*> work = {&schema};
  std::vector<Json::Object> parts;
  Json::Object out;
  while (!work.empty()) {
    const Json& part = *work.back();
    work.pop_back();
    if (part.is_bool()) {
      if (!part.as_bool("schema"))
        throw Error("nothing can satisfy the schema 'false': leave out what it stands for");
      continue;
    }
    if (parts.size() >= kMaxParts)
      throw Error("the schema's $ref and allOf go round in circles or are too many at one place");
    Json::Object own;
    std::vector<const Json*> more;
    for (const auto& [keyword, value] : part.as_object("schema")) {
      if (keyword == "$ref") {
        more.push_back(&resolve_reference(root, value.as_string("$ref")));
      } else if (keyword == "allOf") {
        for (const Json& each : value.as_array("allOf")) more.push_back(&each);
      } else if (!is_annotation(keyword)) {
        own.emplace_back(keyword, value);
        merge_keyword(out, keyword, value);
      }
    }
    parts.push_back(std::move(own));
    work.insert(work.end(), more.rbegin(), more.rend());
    if (work.size() > kMaxParts) throw Error("the schema joins too many parts at one place with allOf");
  }
  check_closed(parts, out);
  return out;
}

std::string_view type_of(const Json& value) {
  if (value.is_null()) return "null";
  if (value.is_bool()) return "boolean";
  if (value.is_integer()) return "integer";
  if (value.is_number()) return "number";
  if (value.is_string()) return "string";
  return value.is_array() ? "array" : "object";
}

std::vector<std::string> types_of(const Json::Object& schema) {
  static constexpr std::array kTypes = {"object", "array", "string", "number", "integer", "boolean", "null"};
  std::vector<std::string> out;
  const auto add = [&](std::string_view type) {
    if (std::find(out.begin(), out.end(), type) == out.end()) out.emplace_back(type);
  };
  if (const Json* type = find_keyword(schema, "type")) {
    for (const Json& each : as_list(*type)) {
      const std::string& name = each.as_string("schema: type");
      if (std::find(kTypes.begin(), kTypes.end(), name) == kTypes.end()) {
        throw Error(cat("the schema's type '", name.substr(0, 64),
                        "' is none of object, array, string, number, integer, boolean, null"));
      }
      add(name);
    }
  } else if (const Json* value = find_keyword(schema, "const")) {
    add(type_of(*value));
  } else if (const Json* values = find_keyword(schema, "enum")) {
    for (const Json& each : values->as_array("schema: enum")) add(type_of(each));
  } else {
    for (const auto& [keyword, of] : kKeywords) {
      if (!of.empty() && find_keyword(schema, keyword) != nullptr) add(of);
    }
  }
  if (out.empty()) out.assign({"object", "array", "string", "number", "boolean", "null"});
  const auto integer = std::find(out.begin(), out.end(), "integer");
  if (integer != out.end() && std::find(out.begin(), out.end(), "number") != out.end()) out.erase(integer);
  return out;
}

namespace {

// The only values that the schema allows, if it lists them.
std::vector<std::string> listed(const Json::Object& schema) {
  std::vector<std::string> out;
  if (const Json* value = find_keyword(schema, "const")) out.push_back(value->dump());
  if (const Json* values = find_keyword(schema, "enum")) {
    for (const Json& each : values->as_array("schema: enum")) out.push_back(each.dump());
  }
  return out;
}

bool disjoint(const std::vector<std::string>& a, const std::vector<std::string>& b) {
  return std::none_of(a.begin(), a.end(),
                      [&](const auto& x) { return std::find(b.begin(), b.end(), x) != b.end(); });
}

bool share_types(const Json::Object& a, const Json::Object& b) {
  for (const auto& x : types_of(a)) {
    for (const auto& y : types_of(b)) {
      const bool numbers = (x == "integer" && y == "number") || (x == "number" && y == "integer");
      if (x == y || numbers) return true;
    }
  }
  return false;
}

}  // namespace

bool exclude_each_other(const Json& root, const Json::Object& a, const Json::Object& b) {
  if (!share_types(a, b)) return true;
  const auto left = listed(a), right = listed(b);
  if (!left.empty() && !right.empty()) return disjoint(left, right);
  // Objects that both require a property which tells them apart.
  const Json *one = find_keyword(a, "properties"), *other = find_keyword(b, "properties");
  const Json *needs = find_keyword(a, "required"), *other_needs = find_keyword(b, "required");
  if (types_of(a) != std::vector<std::string>{"object"} || types_of(b) != types_of(a)) return false;
  if (one == nullptr || other == nullptr || needs == nullptr || other_needs == nullptr) return false;
  for (const auto& [name, schema] : one->as_object("properties")) {
    const Json* same = other->find(name);
    const Json key(name);
    if (same == nullptr || !contains(as_list(*needs), key) || !contains(as_list(*other_needs), key)) continue;
    const auto x = listed(flattened(root, schema)), y = listed(flattened(root, *same));
    if (!x.empty() && !y.empty() && disjoint(x, y)) return true;
  }
  return false;
}

}  // namespace llamita::grammar
