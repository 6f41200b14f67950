#include "text/jinja/value.h"

#include <algorithm>
#include <cmath>

#include "text/jinja/budget.h"

namespace llamita::jinja {

namespace {

int depth_above(const Values& items) {
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  if (depth >= kMaxValueDepth) fail("lists and dicts are nested deeper than ", kMaxValueDepth);
  return depth + 1;
}

}  // namespace

Value Value::undefined(std::string message) {
  return Value(std::make_shared<const Undefined>(Undefined{std::move(message)}));
}

Value Value::text(Text value) { return Value(std::make_shared<const Text>(std::move(value))); }

Value Value::list(Values items) {
  const int depth = depth_above(items);
  return Value(std::make_shared<const List>(List{std::move(items), depth}));
}

Value Value::tuple(Values items) {
  const int depth = depth_above(items);
  return Value(std::make_shared<const Tuple>(Tuple{std::move(items), depth, false}));
}

Value Value::group(Value grouper, Value items) {
  Values pair{std::move(grouper), std::move(items)};
  const int depth = depth_above(pair);
  return Value(std::make_shared<const Tuple>(Tuple{std::move(pair), depth, true}));
}

Value Value::dict(Dict value) { return Value(std::make_shared<const Dict>(std::move(value))); }

Value Value::object(std::shared_ptr<Object> value) {
  if (value->depth() > kMaxValueDepth) fail("values are nested deeper than ", kMaxValueDepth);
  return Value(std::move(value));
}

// Recursion is bounded by the depth limit of the JSON parser; the depth of containers is checked as well, for
// values that a program built by hand.
Value Value::from_json(const Json& json, bool trusted) {
  constexpr std::string_view what = "template variable";
  if (json.is_bool()) return boolean(json.as_bool(what));
  if (json.is_integer()) return integer(json.as_int(what));
  if (json.is_number()) return real(json.as_double(what));
  if (json.is_string()) return text(Text(json.as_string(what), trusted));
  if (json.is_array()) {
    Values items;
    for (const Json& item : json.as_array(what)) items.push_back(from_json(item, trusted));
    return list(std::move(items));
  }
  if (json.is_object()) {
    Dict out;
    for (const auto& [key, value] : json.as_object(what)) {
      out.set(text(Text(key, trusted)), from_json(value, trusted));
    }
    return dict(std::move(out));
  }
  return Value();
}

const std::string& Value::undefined_message() const {
  return std::get<std::shared_ptr<const Undefined>>(storage_)->message;
}

const Values& Value::as_items() const {
  return is_list() ? std::get<std::shared_ptr<const List>>(storage_)->items
                   : std::get<std::shared_ptr<const Tuple>>(storage_)->items;
}

bool Value::is_group() const { return is_tuple() && std::get<std::shared_ptr<const Tuple>>(storage_)->group; }

const void* Value::address() const {
  if (is_text()) return std::get<std::shared_ptr<const Text>>(storage_).get();
  if (is_list()) return std::get<std::shared_ptr<const List>>(storage_).get();
  if (is_tuple()) return std::get<std::shared_ptr<const Tuple>>(storage_).get();
  if (is_dict()) return std::get<std::shared_ptr<const Dict>>(storage_).get();
  if (is_object()) return as_object().get();
  return nullptr;
}

int Value::depth() const {
  if (is_list()) return std::get<std::shared_ptr<const List>>(storage_)->depth;
  if (is_tuple()) return std::get<std::shared_ptr<const Tuple>>(storage_)->depth;
  if (is_dict()) return as_dict().depth();
  return is_object() ? as_object()->depth() : 0;
}

std::string Value::type_name() const {
  if (is_none()) return "NoneType";
  if (is_undefined()) return "Undefined";
  if (is_bool()) return "bool";
  if (is_int()) return "int";
  if (is_float()) return "float";
  if (is_text()) return "str";
  if (is_list()) return "list";
  if (is_tuple()) return "tuple";
  return is_dict() ? "dict" : as_object()->type_name();
}

void Dict::set(const Value& key, Value value) {
  const int below = std::max(key.depth(), value.depth());
  if (below >= kMaxValueDepth) fail("lists and dicts are nested deeper than ", kMaxValueDepth);
  depth_ = std::max(depth_, below + 1);
  const auto [place, added] = index_.emplace(hash_key(key), entries_.size());
  if (added) {
    entries_.emplace_back(key, std::move(value));
  } else {
    entries_[place->second].second = std::move(value);
  }
}

const Value* Dict::find(const Value& key) const {
  const auto found = index_.find(hash_key(key));
  return found == index_.end() ? nullptr : &entries_[found->second].second;
}

const Value* Dict::find(std::string_view key) const {
  const auto found = index_.find(cat("s", key));
  return found == index_.end() ? nullptr : &entries_[found->second].second;
}

std::string hash_key(const Value& value) {
  if (value.is_text()) return cat("s", value.as_text().view());
  if (value.is_integral()) return cat("i", value.as_int());
  if (value.is_float()) {
    const double number = value.as_double();
    const bool whole = std::abs(number) < 9.2e18 && number == std::floor(number);
    return whole ? cat("i", static_cast<int64_t>(number)) : cat("f", number);
  }
  if (value.is_none()) return "n";
  if (value.is_undefined()) return "u";
  if (value.is_tuple()) {
    std::string out = "t";
    for (const Value& item : value.as_items()) {
      const std::string key = hash_key(item);
      out += cat(key.size(), ":", key);
      if (out.size() > kMaxText) fail("a dict key is larger than ", kMaxText, " bytes");
    }
    return out;
  }
  if (value.is_object()) return cat("o", reinterpret_cast<uintptr_t>(value.address()));
  fail("unhashable type: '", value.type_name(), "'");
}

Value Object::call(Runtime&, const CallArgs&) { fail("'", type_name(), "' object is not callable"); }

std::optional<Values> Object::take_items() {
  if (const Values* items = sequence()) return *items;
  return std::nullopt;
}

}  // namespace llamita::jinja
