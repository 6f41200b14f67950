// Methods of dicts, lists, tuples and numbers, and the binding of every method to its object.
#include <algorithm>
#include <array>
#include <cmath>

#include "text/jinja/arguments.h"
#include "text/jinja/method_table.h"
#include "text/jinja/runtime.h"

namespace llamita::jinja {

namespace {

class BoundMethod : public Object {
 public:
  BoundMethod(Value self, const Method& method) : self_(std::move(self)), method_(method) {}
  std::string type_name() const override { return "builtin_function_or_method"; }
  std::string repr() const override {
    return cat("<built-in method ", method_.name, " of ", self_.type_name(), " object>");
  }
  bool callable() const override { return true; }
  Value call(Runtime& runtime, const CallArgs& args) override { return method_.run(runtime, self_, args); }
  int depth() const override { return self_.depth() + 1; }

 private:
  Value self_;
  const Method& method_;
};

// keys(), values(), items(): a view that prints like Python's.
class DictView : public Object {
 public:
  DictView(std::string type_name, Values items) : type_name_(std::move(type_name)), items_(std::move(items)) {
    for (const Value& item : items_) depth_ = std::max(depth_, item.depth());
  }
  std::string type_name() const override { return type_name_; }
  const Values* sequence() const override { return &items_; }
  int depth() const override { return depth_ + 1; }

 private:
  std::string type_name_;
  Values items_;
  int depth_ = 0;
};

Value view(Runtime& runtime, const char* name, Values items) {
  runtime.budget().work(items.size() * sizeof(Value));
  return Value::object(std::make_shared<DictView>(name, std::move(items)));
}

Value dict_get(Runtime&, const Value& self, const CallArgs& args) {
  if (!args.keyword.empty()) fail("get() takes no keyword arguments");
  const Arguments given("get", args, {"key", "default"}, 1);
  const Value* found = self.as_dict().find(given[0]);
  return found ? *found : given.get(1);
}

Value dict_keys(Runtime& runtime, const Value& self, const CallArgs& args) {
  Arguments("keys", args, {}, 0);
  return view(runtime, "dict_keys", iterate(runtime, self));
}

Value dict_values(Runtime& runtime, const Value& self, const CallArgs& args) {
  Arguments("values", args, {}, 0);
  Values items;
  for (const auto& entry : self.as_dict().entries()) items.push_back(entry.second);
  return view(runtime, "dict_values", std::move(items));
}

Value dict_items(Runtime& runtime, const Value& self, const CallArgs& args) {
  Arguments("items", args, {}, 0);
  Values items;
  for (const auto& [key, value] : self.as_dict().entries()) items.push_back(Value::tuple({key, value}));
  return view(runtime, "dict_items", std::move(items));
}

Value copy(Runtime&, const Value& self, const CallArgs& args) {
  Arguments("copy", args, {}, 0);
  return self;  // nothing can change it
}

Value items_count(Runtime& runtime, const Value& self, const CallArgs& args) {
  const Arguments given("count", args, {"value"}, 1);
  int64_t count = 0;
  for (const Value& item : self.as_items()) count += equal(runtime, item, given[0]);
  return Value::integer(count);
}

Value items_index(Runtime& runtime, const Value& self, const CallArgs& args) {
  const Arguments given("index", args, {"value", "start", "stop"}, 1);
  const Values& items = self.as_items();
  const auto size = static_cast<int64_t>(items.size());
  const auto bound = [&](size_t i, int64_t fallback) {
    const int64_t at = given.int_or(i, fallback);
    return std::clamp(at < 0 ? at + size : at, int64_t{0}, size);
  };
  for (int64_t i = bound(1, 0); i < bound(2, size); ++i) {
    if (equal(runtime, items[static_cast<size_t>(i)], given[0])) return Value::integer(i);
  }
  fail("the value is not in the ", self.type_name());
}

Value is_integer(Runtime&, const Value& self, const CallArgs& args) {
  Arguments("is_integer", args, {}, 0);
  const double value = self.as_double();
  return Value::boolean(std::isfinite(value) && value == std::floor(value));
}

constexpr std::array kDictMethods{Method{"get", dict_get}, Method{"items", dict_items},
                                  Method{"keys", dict_keys}, Method{"values", dict_values},
                                  Method{"copy", copy}};
constexpr std::array kListMethods{Method{"count", items_count}, Method{"index", items_index},
                                  Method{"copy", copy}};
constexpr std::array kTupleMethods{Method{"count", items_count}, Method{"index", items_index}};
constexpr std::array kNumberMethods{Method{"is_integer", is_integer}};

std::span<const Method> methods_of(const Value& value) {
  if (value.is_text()) return string_methods();
  if (value.is_dict()) return kDictMethods;
  if (value.is_list()) return kListMethods;
  if (value.is_tuple()) return kTupleMethods;
  if (value.is_float()) return kNumberMethods;
  return {};
}

}  // namespace

std::optional<Value> bind_method(const Value& self, std::string_view name) {
  for (const Method& method : methods_of(self)) {
    if (method.name == name) return Value::object(std::make_shared<BoundMethod>(self, method));
  }
  return std::nullopt;
}

bool changes_its_object(const Value& self, std::string_view name) {
  static constexpr std::string_view kDict[] = {"clear", "pop", "popitem", "setdefault", "update"};
  static constexpr std::string_view kList[] = {"append", "clear",  "pop",  "reverse",
                                               "insert", "remove", "sort", "extend"};
  const auto among = [&](const auto& names) {
    return std::find(std::begin(names), std::end(names), name) != std::end(names);
  };
  return (self.is_dict() && among(kDict)) || (self.is_list() && among(kList));
}

}  // namespace llamita::jinja
