#include "text/grammar/json_schema.h"

#include <algorithm>
#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/cat.h"
#include "llamita/error.h"
#include "text/grammar/grammar_builder.h"
#include "text/grammar/number_range.h"
#include "text/grammar/schema_flatten.h"
#include "text/grammar/string_pattern.h"

namespace llamita::grammar {

namespace {

using Expr = GrammarBuilder::Expr;
using Link = GrammarBuilder::Link;

constexpr int32_t kMaxCount = 100'000;  // of items, characters, properties
constexpr size_t kMaxExclusive = 64;    // options of a oneOf

const Json kAnything(true);

// Every schema becomes a rule, once for each text it has; rules wait in a queue, so that neither nesting nor
// recursion of schemas is recursion here.
class Compiler {
 public:
  Compiler(const Json& root, Layout layout, size_t most_work)
      : root_(root), json_(builder_, layout), most_work_(most_work) {}

  std::shared_ptr<const Grammar> run() {
    const int root = rule(root_);
    while (!queue_.empty()) {
      const auto [schema, id] = std::move(queue_.front());
      queue_.pop_front();
      builder_.define(id, body(schema));
    }
    return builder_.build(root);
  }

 private:
  int rule(const Json& schema) {
    std::string text = schema.dump();
    work_ += text.size() + 16;
    if (work_ > most_work_)
      throw Error("the schema grows too large when its $ref, allOf and anyOf are followed");
    const auto [place, fresh] = rules_.try_emplace(std::move(text), 0);
    if (fresh) {
      place->second = builder_.declare(cat("schema ", place->first.substr(0, 64)), false);
      queue_.emplace_back(schema, place->second);
    }
    return place->second;
  }

  Expr reference(const Json& schema) { return builder_.call(rule(schema)); }

  Expr body(const Json& schema) {
    const Json* alias = only_reference(schema);
    if (alias != nullptr) return reference(*alias);
    const Json::Object flat = flattened(root_, schema);
    if (flat.empty()) return json_.any_value();
    for (const std::string_view keyword : {"anyOf", "oneOf"}) {
      if (const Json* options = find_keyword(flat, keyword))
        return choice(flat, keyword, options->as_array(keyword));
    }
    if (find_keyword(flat, "const") || find_keyword(flat, "enum")) return listed_values(flat);
    std::vector<Expr> options;
    for (const std::string& type : types_of(flat)) options.push_back(typed(type, flat));
    return builder_.any_of(std::move(options));
  }

  // {"$ref": ...} or {"allOf": [one]} without other constraints: the rule of that schema itself, which is
  // what lets recursive schemas come to an end.
  const Json* only_reference(const Json& schema) const {
    if (!schema.is_object()) return nullptr;
    const Json* found = nullptr;
    for (const auto& [keyword, value] : schema.as_object("schema")) {
      if (is_annotation(keyword)) continue;
      if (found != nullptr) return nullptr;
      if (keyword == "$ref") {
        found = &resolve_reference(root_, value.as_string("$ref"));
      } else if (keyword == "allOf" && value.as_array("allOf").size() == 1) {
        found = &value.as_array("allOf")[0];
      } else {
        return nullptr;
      }
    }
    return found;
  }

  Expr choice(const Json::Object& flat, std::string_view keyword, const Json::Array& branches) {
    if (branches.empty())
      throw Error(cat("the schema has an empty ", keyword, ", which nothing can satisfy"));
    Json::Object rest;
    for (const auto& member : flat) {
      if (member.first != keyword) rest.push_back(member);
    }
    if (keyword == "oneOf") check_exclusive(branches);
    std::vector<Expr> options;
    for (const Json& branch : branches) {
      if (branch.is_bool() && !branch.as_bool("anyOf")) continue;
      options.push_back(reference(
          rest.empty() ? branch : Json(Json::Object{{"allOf", Json(Json::Array{Json(rest), branch})}})));
    }
    return builder_.any_of(std::move(options));
  }

  void check_exclusive(const Json::Array& branches) {
    if (branches.size() > kMaxExclusive)
      throw Error(cat("the schema's oneOf has more than ", kMaxExclusive, " options: use anyOf"));
    std::vector<Json::Object> flat;
    for (const Json& branch : branches) flat.push_back(flattened(root_, branch));
    for (size_t i = 0; i < flat.size(); ++i) {
      for (size_t j = 0; j < i; ++j) {
        if (!exclude_each_other(root_, flat[i], flat[j])) {
          throw Error(cat(
              "options ", j, " and ", i,
              " of the schema's oneOf may both match, and oneOf wants exactly one: use anyOf, or require a "
              "property whose const differs"));
        }
      }
    }
  }

  Expr listed_values(const Json::Object& flat) {
    for (const auto& [keyword, value] : flat) {
      if (keyword != "type" && keyword != "const" && keyword != "enum") {
        throw Error(cat("the schema has '", keyword,
                        "' beside enum or const, which is not supported: list the values that satisfy it"));
      }
    }
    const Json *single = find_keyword(flat, "const"), *values = find_keyword(flat, "enum");
    const auto types = types_of(flat);
    const auto allowed = [&](const Json& value) {
      const auto type = type_of(value);
      return std::find(types.begin(), types.end(), type) != types.end() ||
             (type == "integer" && std::find(types.begin(), types.end(), "number") != types.end());
    };
    std::vector<Expr> options;
    for (const Json& value : values ? values->as_array("schema: enum") : Json::Array{*single}) {
      if (single != nullptr && single->dump() != value.dump()) continue;
      if (allowed(value)) options.push_back(builder_.bytes(value.dump()));
    }
    return builder_.any_of(std::move(options));
  }

  Expr typed(const std::string& type, const Json::Object& flat) {
    if (type == "object") return object(flat);
    if (type == "array") return array(flat);
    if (type == "string") return string(flat);
    if (type == "boolean") return builder_.any_of({builder_.bytes("true"), builder_.bytes("false")});
    if (type == "null") return builder_.bytes("null");
    const bool integer = type == "integer";
    const NumberBound low = bound(flat, "minimum", "exclusiveMinimum", true);
    const NumberBound high = bound(flat, "maximum", "exclusiveMaximum", false);
    if (low.value == nullptr && high.value == nullptr) return integer ? json_.integer() : json_.number();
    return number_between(builder_, low, high, integer);
  }

  static NumberBound bound(const Json::Object& flat, std::string_view inclusive, std::string_view exclusive,
                           bool low) {
    const Json *weak = find_keyword(flat, inclusive), *strict = find_keyword(flat, exclusive);
    if (weak == nullptr && strict == nullptr) return {};
    const double a = weak ? weak->as_double(cat("schema: ", inclusive)) : 0;
    const double b = strict ? strict->as_double(cat("schema: ", exclusive)) : 0;
    if (strict == nullptr || (weak != nullptr && (low ? a > b : a < b))) return {weak, false};
    return {strict, true};
  }

  static int32_t count(const Json::Object& flat, std::string_view keyword, int32_t otherwise) {
    const Json* value = find_keyword(flat, keyword);
    if (value == nullptr) return otherwise;
    const double number = value->as_double(cat("schema: ", keyword));
    if (!(number >= 0) || number > kMaxCount || number != static_cast<int32_t>(number)) {
      throw Error(cat("the schema's ", keyword, " is ", value->dump(), "; expected a whole number of 0 to ",
                      kMaxCount));
    }
    return static_cast<int32_t>(number);
  }

  static std::pair<int32_t, int32_t> counts(const Json::Object& flat, std::string_view min,
                                            std::string_view max) {
    const std::pair out(count(flat, min, 0), count(flat, max, kUnbounded));
    if (out.first > out.second)
      throw Error(cat("nothing can satisfy the schema: its ", min, " is above its ", max));
    return out;
  }

  Expr string(const Json::Object& flat) {
    const auto [min, max] = counts(flat, "minLength", "maxLength");
    const Json *pattern = find_keyword(flat, "pattern"), *format = find_keyword(flat, "format");
    const bool bounded = min > 0 || max != kUnbounded;
    if (!bounded && pattern == nullptr && format == nullptr) return json_.string();
    std::vector<Expr> parts;
    if (bounded) parts.push_back(builder_.repeat(json_.character(), min, max));
    if (pattern) parts.push_back(string_pattern(builder_, json_, pattern->as_string("schema: pattern")));
    if (format) {
      parts.push_back(string_pattern(builder_, json_, format_pattern(format->as_string("schema: format"))));
    }
    Expr all = parts[0];
    for (size_t i = 1; i < parts.size(); ++i) all = builder_.both(all, parts[i]);
    return json_.quoted(all);
  }

  Expr array(const Json::Object& flat) {
    const auto [min, max] = counts(flat, "minItems", "maxItems");
    if (const Json* unique = find_keyword(flat, "uniqueItems");
        unique && unique->as_bool("schema: uniqueItems")) {
      throw Error(
          "the schema's keyword 'uniqueItems' is not supported: leave it out and check it on the result");
    }
    const Json *items = find_keyword(flat, "items"), *prefix = find_keyword(flat, "prefixItems");
    const bool closed = items != nullptr && items->is_bool() && !items->as_bool("items");
    static const Json::Array kNone;
    const Json::Array& first = prefix ? prefix->as_array("schema: prefixItems") : kNone;
    if (closed && size_t(min) > first.size())
      throw Error("nothing can satisfy the schema: more minItems than prefixItems allow");
    const Expr item = closed ? builder_.empty() : reference(items ? *items : kAnything);
    Expr content;
    if (first.empty()) {
      content = json_.list(item, min, closed ? 0 : max);
    } else {
      content = tuple(first, item, min, max, closed);
    }
    const int id = builder_.declare("array", true);
    builder_.define(id, json_.bracketed('[', content, min == 0, ']'));
    return builder_.call(id);
  }

  // Node i: i items are written. Node `last`: the end.
  Expr tuple(const Json::Array& first, Expr item, int32_t min, int32_t max, bool closed) {
    const auto size = static_cast<int32_t>(std::min(first.size(), size_t(max)));
    const int32_t last = size + 1;
    std::vector<Link> links;
    for (int32_t i = 0; i <= size; ++i) {
      if (i < size) {
        const Expr next = reference(first[size_t(i)]);
        links.push_back({i, i + 1, i == 0 ? next : builder_.sequence({json_.comma(), next})});
      }
      if (i >= min && i < size) links.push_back({i, last, builder_.empty()});
    }
    const int32_t more = closed ? 0 : max == kUnbounded ? kUnbounded : max - size;
    links.push_back(
        {size, last,
         builder_.repeat(builder_.sequence({json_.comma(), item}), std::max(0, min - size), more)});
    return builder_.network(last + 1, std::move(links));
  }

  Expr object(const Json::Object& flat) {
    Json::Object members;
    if (const Json* listed = find_keyword(flat, "properties"))
      members = listed->as_object("schema: properties");
    const Json* others = find_keyword(flat, "additionalProperties");
    if (others == nullptr && members.empty()) others = &kAnything;
    const bool open = others != nullptr && !(others->is_bool() && !others->as_bool("additionalProperties"));
    std::vector<bool> needed(members.size());
    if (const Json* required = find_keyword(flat, "required")) {
      for (const Json& each : required->as_array("schema: required")) {
        require(each.as_string("schema: required"), open || !find_keyword(flat, "additionalProperties"),
                open ? *others : kAnything, members, needed);
      }
    }
    const auto [min, max] = counts(flat, "minProperties", "maxProperties");
    const auto least = static_cast<int32_t>(std::count(needed.begin(), needed.end(), true));
    const bool counted = members.empty();
    if (!counted && (min > least || max < (open ? kUnbounded : static_cast<int32_t>(members.size())))) {
      throw Error(
          "the schema's minProperties or maxProperties goes beyond its required and listed properties, which "
          "is not supported");
    }
    const int id = builder_.declare("object", true);
    Expr content;
    if (counted) {
      content = json_.list(open ? other_member({}, *others) : builder_.empty(), min, open ? max : 0);
      if (!open && min > 0)
        throw Error("nothing can satisfy the schema: minProperties of an object without properties");
    } else {
      content = network(members, needed, open ? others : nullptr);
    }
    builder_.define(id, json_.bracketed('{', content, counted ? min == 0 : least == 0, '}'));
    return builder_.call(id);
  }

  void require(const std::string& name, bool open, const Json& schema, Json::Object& members,
               std::vector<bool>& needed) {
    const auto place =
        std::find_if(members.begin(), members.end(), [&](const auto& m) { return m.first == name; });
    if (place != members.end()) {
      needed[static_cast<size_t>(place - members.begin())] = true;
      return;
    }
    if (!open) {
      throw Error(cat("nothing can satisfy the schema: it requires property '", name.substr(0, 64),
                      "' and allows no such property"));
    }
    members.emplace_back(name, schema);
    needed.push_back(true);
  }

  Expr other_member(const std::vector<std::string_view>& taken, const Json& schema) {
    return builder_.sequence({json_.key_except(taken), json_.colon(), reference(schema)});
  }

  // Two nodes before each member: 2 i while nothing is written, 2 i + 1 after something is. Members come in
  // order; one that is not required may be passed over.
  Expr network(const Json::Object& members, const std::vector<bool>& needed, const Json* others) {
    const auto size = static_cast<int32_t>(members.size());
    const int32_t end = 2 * size + 2;
    std::vector<Link> links;
    std::vector<std::string_view> names;
    for (int32_t i = 0; i < size; ++i) {
      const auto& [name, schema] = members[size_t(i)];
      names.push_back(name);
      const bool optional = !needed[size_t(i)];
      if (optional) {
        for (const int32_t from : {2 * i, 2 * i + 1}) links.push_back({from, from + 2, builder_.empty()});
        if (schema.is_bool() && !schema.as_bool("properties")) continue;  // never there
      }
      const Expr member = builder_.sequence({json_.literal(name), json_.colon(), reference(schema)});
      links.push_back({2 * i, 2 * i + 3, member});
      links.push_back({2 * i + 1, 2 * i + 3, builder_.sequence({json_.comma(), member})});
    }
    Expr rest = builder_.empty(), start = builder_.empty();
    if (others != nullptr) {
      const Expr member = other_member(names, *others);
      rest = builder_.repeat(builder_.sequence({json_.comma(), member}), 0, kUnbounded);
      start = builder_.optional(builder_.sequence({member, rest}));
    }
    links.push_back({2 * size, end, start});
    links.push_back({2 * size + 1, end, rest});
    return builder_.network(end + 1, std::move(links));
  }

  const Json& root_;
  GrammarBuilder builder_;
  JsonText json_;
  std::map<std::string, int> rules_;  // by the schema's text
  std::deque<std::pair<Json, int>> queue_;
  const size_t most_work_;
  size_t work_ = 0;
};

}  // namespace

std::shared_ptr<const Grammar> json_schema_grammar(std::string_view schema, Layout layout, size_t most_work) {
  const Json::Limits limits = {.bytes = kMaxSchemaBytes, .depth = kMaxSchemaDepth};
  return json_schema_grammar(Json::parse(schema, "schema", limits), layout, most_work);
}

std::shared_ptr<const Grammar> json_schema_grammar(const Json& schema, Layout layout, size_t most_work) {
  const size_t size = schema.dump().size();
  if (size > kMaxSchemaBytes)
    throw Error(cat("the schema has ", size, " bytes; at most ", kMaxSchemaBytes, " are allowed"));
  return Compiler(schema, layout, most_work).run();
}

std::shared_ptr<const Grammar> json_object_grammar(Layout layout) {
  return json_schema_grammar(R"({"type":"object"})", layout);
}

std::shared_ptr<const Grammar> json_value_grammar(Layout layout) { return json_schema_grammar("{}", layout); }

}  // namespace llamita::grammar
