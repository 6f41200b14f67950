// Looking into values: iteration, length, attributes, items, slices, calls.
#include <algorithm>

#include "text/jinja/arguments.h"
#include "text/jinja/runtime.h"
#include "text/jinja/unicode.h"

namespace llamita::jinja {

namespace {

// What a lazy filter returns: gives its items once, has no length.
class Iterator : public Object {
 public:
  Iterator(Values items, std::string type_name) : items_(std::move(items)), type_name_(std::move(type_name)) {
    for (const Value& item : items_) depth_ = std::max(depth_, item.depth());
  }
  std::string type_name() const override { return type_name_; }
  std::optional<Values> take_items() override { return std::exchange(items_, {}); }
  int depth() const override { return depth_ + 1; }

 private:
  Values items_;
  std::string type_name_;
  int depth_ = 0;
};

Values characters(Runtime& runtime, const Text& text) {
  const auto offsets = unicode::offsets(text.view());
  runtime.budget().work(text.size() + (offsets.size() - 1) * (sizeof(Value) + sizeof(Text)));
  Values out;
  out.reserve(offsets.size() - 1);
  for (size_t i = 0; i + 1 < offsets.size(); ++i) {
    out.push_back(Value::text(text.slice(offsets[i], offsets[i + 1])));
  }
  return out;
}

std::string describe(const Value& value) {
  return value.is_none() ? "None" : cat("'", value.type_name(), " object'");
}

Value missing_attribute(const Value& value, std::string_view name) {
  return Value::undefined(cat(describe(value), " has no attribute '", name, "'"));
}

Value unsafe_attribute(const Value& value, std::string_view name) {
  return Value::undefined(
      cat("access to attribute '", name, "' of '", value.type_name(), "' object is unsafe"));
}

// The Python attribute, wrapped as undefined where the sandbox forbids it.
std::optional<Value> python_attribute(Runtime& runtime, const Value& value, std::string_view name) {
  if (name.substr(0, 2) == "__" || changes_its_object(value, name)) return unsafe_attribute(value, name);
  if (value.is_object()) return value.as_object()->attribute(runtime, name);
  if (value.is_group() && (name == "grouper" || name == "list")) {
    return value.as_items()[name == "grouper" ? 0 : 1];
  }
  return bind_method(value, name);
}

const Values* indexable_items(const Value& value) {
  if (value.is_list() || value.is_tuple()) return &value.as_items();
  if (value.is_object() && value.as_object()->indexable()) return value.as_object()->sequence();
  return nullptr;
}

Value nth_character(Runtime& runtime, const Text& text, int64_t index, const Value& key) {
  runtime.budget().work(text.size());
  const auto count = static_cast<int64_t>(unicode::length(text.view()));
  if (index < 0) index += count;
  if (index < 0 || index >= count) return Value::undefined(cat("'str object' has no element ", key.as_int()));
  size_t begin = 0;
  for (int64_t i = 0; i < index; ++i) begin += unicode::decode(text.view(), begin).length;
  return Value::text(text.slice(begin, begin + unicode::decode(text.view(), begin).length));
}

struct Slice {
  int64_t start, count, step;
};

// Python's clipping of slice bounds to a sequence of `size` items.
Slice clip(int64_t size, const Value& start, const Value& stop, const Value& step) {
  const auto number = [](const Value& value, int64_t fallback) {
    return value.is_none() ? fallback : to_index(value, "slice");
  };
  int64_t by = number(step, 1);
  if (by == 0) fail("the step of a slice cannot be zero");
  if (by < -INT64_MAX) by = -INT64_MAX;
  const int64_t low = by > 0 ? 0 : -1;
  const int64_t high = by > 0 ? size : size - 1;
  const auto bound = [&](const Value& value, int64_t fallback) {
    int64_t at = number(value, fallback);
    if (value.is_none()) return at;
    if (at < 0) at += size;
    return std::clamp(at, low, high);
  };
  const int64_t first = bound(start, by > 0 ? low : high);
  const int64_t last = bound(stop, by > 0 ? high : low);
  int64_t count = 0;
  if (by > 0 && first < last) count = (last - first - 1) / by + 1;
  if (by < 0 && first > last) count = (first - last - 1) / -by + 1;
  return {first, count, by};
}

}  // namespace

Value make_iterator(Values items, std::string type_name) {
  return Value::object(std::make_shared<Iterator>(std::move(items), std::move(type_name)));
}

bool is_iterable(const Value& value) {
  if (value.is_none() || value.is_number()) return false;
  // An object that can give items says so without losing them when it has a sequence; iterators always can.
  if (value.is_object())
    return value.as_object()->sequence() || dynamic_cast<Iterator*>(value.as_object().get());
  return true;
}

Values iterate(Runtime& runtime, const Value& value) {
  if (value.is_text()) return characters(runtime, value.as_text());
  if (value.is_undefined()) return {};
  Values out;
  if (value.is_list() || value.is_tuple()) {
    out = value.as_items();
  } else if (value.is_dict()) {
    for (const auto& entry : value.as_dict().entries()) out.push_back(entry.first);
  } else {
    std::optional<Values> items;
    if (value.is_object()) items = value.as_object()->take_items();
    if (!items) fail("'", value.type_name(), "' object is not iterable");
    out = std::move(*items);
  }
  runtime.budget().work(out.size() * sizeof(Value));
  return out;
}

std::optional<size_t> length(const Value& value) {
  if (value.is_text()) return unicode::length(value.as_text().view());
  if (value.is_list() || value.is_tuple()) return value.as_items().size();
  if (value.is_dict()) return value.as_dict().size();
  if (value.is_undefined()) return 0;
  if (value.is_object() && value.as_object()->sequence()) return value.as_object()->sequence()->size();
  return std::nullopt;
}

Value get_attribute(Runtime& runtime, const Value& value, std::string_view name) {
  require_defined(value);
  if (const auto found = python_attribute(runtime, value, name)) {
    const Value* own = value.is_dict() && found->is_undefined() && name.substr(0, 2) == "__"
                           ? value.as_dict().find(name)
                           : nullptr;
    return own ? *own : *found;
  }
  if (value.is_dict()) {
    if (const Value* item = value.as_dict().find(name)) return *item;
  }
  return missing_attribute(value, name);
}

Value get_item(Runtime& runtime, const Value& value, const Value& key) {
  require_defined(value);
  if (value.is_dict()) {
    const bool hashable = !key.is_list() && !key.is_dict();
    if (const Value* item = hashable ? value.as_dict().find(key) : nullptr) return *item;
  } else if (key.is_integral()) {
    if (value.is_text()) return nth_character(runtime, value.as_text(), key.as_int(), key);
    if (const Values* items = indexable_items(value)) {
      const auto size = static_cast<int64_t>(items->size());
      const int64_t index = key.as_int() < 0 ? key.as_int() + size : key.as_int();
      if (index >= 0 && index < size) return (*items)[static_cast<size_t>(index)];
    }
  }
  if (key.is_text()) {
    if (const auto found = python_attribute(runtime, value, key.as_text().view())) return *found;
    return missing_attribute(value, key.as_text().view());
  }
  return Value::undefined(cat(describe(value), " has no element ", to_text(runtime, key).view()));
}

Value get_slice(Runtime& runtime, const Value& value, const Value& start, const Value& stop,
                const Value& step) {
  require_defined(value);
  if (value.is_text()) {
    const Text& text = value.as_text();
    const auto offsets = unicode::offsets(text.view());
    runtime.budget().work(text.size());
    const Slice slice = clip(static_cast<int64_t>(offsets.size()) - 1, start, stop, step);
    const auto at = [&](int64_t i) { return offsets[static_cast<size_t>(i)]; };
    if (slice.count == 0) return Value::text("");
    if (slice.step == 1) return runtime.text(text.slice(at(slice.start), at(slice.start + slice.count)));
    Text out;
    for (int64_t i = 0; i < slice.count; ++i) {
      const int64_t from = slice.start + i * slice.step;
      out.append(text, at(from), at(from + 1));
    }
    return runtime.text(std::move(out));
  }
  const Values* items = indexable_items(value);
  if (!items) return Value::undefined(cat(describe(value), " cannot be sliced"));
  const Slice slice = clip(static_cast<int64_t>(items->size()), start, stop, step);
  Values out;
  for (int64_t i = 0; i < slice.count; ++i) {
    out.push_back((*items)[static_cast<size_t>(slice.start + i * slice.step)]);
  }
  return value.is_tuple() ? runtime.tuple(std::move(out)) : runtime.list(std::move(out));
}

Value call(Runtime& runtime, const Value& callee, const CallArgs& args) {
  require_defined(callee);
  if (!callee.is_object()) fail("'", callee.type_name(), "' object is not callable");
  return callee.as_object()->call(runtime, args);
}

}  // namespace llamita::jinja
