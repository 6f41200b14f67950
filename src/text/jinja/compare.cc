// Truth, equality, order and membership, as in Python.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "text/jinja/runtime.h"

namespace llamita::jinja {

namespace {

bool equal_items(Runtime& runtime, const Values& a, const Values& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!equal(runtime, a[i], b[i])) return false;
  }
  return true;
}

bool equal_dicts(Runtime& runtime, const Dict& a, const Dict& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [key, value] : a.entries()) {
    const Value* other = b.find(key);
    if (!other || !equal(runtime, value, *other)) return false;
  }
  return true;
}

}  // namespace

bool truth(const Value& value) {
  if (value.is_none() || value.is_undefined()) return false;
  if (value.is_integral()) return value.as_int() != 0;
  if (value.is_float()) return value.as_double() != 0;
  return length(value).value_or(1) != 0;
}

void require_defined(const Value& value) {
  if (value.is_undefined()) fail(value.undefined_message());
}

bool equal(Runtime& runtime, const Value& a, const Value& b) {
  runtime.budget().step();
  if (a.is_integral() && b.is_integral()) return a.as_int() == b.as_int();
  if (a.is_number() && b.is_number()) return a.as_double() == b.as_double();
  if (a.is_text() && b.is_text()) {
    if (a.as_text().size() != b.as_text().size()) return false;
    runtime.budget().work(a.as_text().size());
    return a.as_text().view() == b.as_text().view();
  }
  if ((a.is_list() && b.is_list()) || (a.is_tuple() && b.is_tuple())) {
    return equal_items(runtime, a.as_items(), b.as_items());
  }
  if (a.is_dict() && b.is_dict()) return equal_dicts(runtime, a.as_dict(), b.as_dict());
  if (a.is_object() && b.is_object()) {
    if (a.address() == b.address()) return true;
    const Values* left = a.as_object()->sequence();
    const Values* right = b.as_object()->sequence();
    const bool ranges = a.as_object()->indexable() && b.as_object()->indexable();
    return ranges && left && right && equal_items(runtime, *left, *right);
  }
  return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
}

bool less(Runtime& runtime, const Value& a, const Value& b) {
  require_defined(a);
  require_defined(b);
  runtime.budget().step();
  if (a.is_integral() && b.is_integral()) return a.as_int() < b.as_int();
  if (a.is_number() && b.is_number()) return a.as_double() < b.as_double();
  if (a.is_text() && b.is_text()) {
    // The order of UTF-8 bytes is the order of code points.
    runtime.budget().work(std::min(a.as_text().size(), b.as_text().size()));
    return a.as_text().view() < b.as_text().view();
  }
  if ((a.is_list() && b.is_list()) || (a.is_tuple() && b.is_tuple())) {
    const Values& left = a.as_items();
    const Values& right = b.as_items();
    for (size_t i = 0; i < std::min(left.size(), right.size()); ++i) {
      if (!equal(runtime, left[i], right[i])) return less(runtime, left[i], right[i]);
    }
    return left.size() < right.size();
  }
  fail("'<' is not supported between '", a.type_name(), "' and '", b.type_name(), "'");
}

bool contains(Runtime& runtime, const Value& haystack, const Value& needle) {
  if (haystack.is_text()) {
    if (!needle.is_text()) fail("'in <string>' takes a string, not '", needle.type_name(), "'");
    const auto& text = haystack.as_text().bytes();
    const auto& part = needle.as_text().bytes();
    runtime.budget().work(text.size());
    // memmem is linear in the worst case; std::string::find is not.
    return part.empty() || memmem(text.data(), text.size(), part.data(), part.size()) != nullptr;
  }
  if (haystack.is_dict()) {
    if (needle.is_text()) runtime.budget().work(needle.as_text().size());
    return haystack.as_dict().find(needle) != nullptr;
  }
  for (const Value& item : iterate(runtime, haystack)) {
    if (item.address() && item.address() == needle.address()) return true;
    if (equal(runtime, item, needle)) return true;
  }
  return false;
}

}  // namespace llamita::jinja
