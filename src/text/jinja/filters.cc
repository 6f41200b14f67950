// The filters by name, and what several of them share.
#include "text/jinja/filter_table.h"

#include <map>

#include "text/jinja/text_ops.h"

namespace llamita::jinja {

namespace {

using Table = std::map<std::string_view, const Filter*>;

const Table& table() {
  static const Table kTable = [] {
    Table out;
    for (const auto list : {text_filters(), number_filters(), sequence_filters(), selection_filters()}) {
      for (const Filter& filter : list) out.emplace(filter.name, &filter);
    }
    return out;
  }();
  return kTable;
}

bool all_digits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

}  // namespace

bool has_filter(std::string_view name) { return table().count(name) > 0; }

Value call_filter(Runtime& runtime, std::string_view name, const Value& input, const CallArgs& args) {
  const auto found = table().find(name);
  if (found == table().end()) fail("there is no filter named '", name, "'");
  runtime.budget().step();
  return found->second->run(runtime, input, args);
}

Value lookup_path(Runtime& runtime, const Value& item, const Value& path, const Value* fallback) {
  Value value = item;
  const auto step = [&](const Value& key) {
    value = get_item(runtime, value, key);
    if (fallback && value.is_undefined()) value = *fallback;
  };
  if (path.is_none()) return value;
  if (!path.is_text()) {
    step(path);
    return value;
  }
  std::string_view left = path.as_text().view();
  for (bool more = true; more;) {
    const size_t dot = left.find('.');
    more = dot != std::string_view::npos;
    const auto part = left.substr(0, dot);
    if (all_digits(part) && part.size() < 18) {
      int64_t index = 0;
      for (const char c : part) index = index * 10 + (c - '0');
      step(Value::integer(index));
    } else {
      step(Value::text(part));
    }
    if (more) left.remove_prefix(dot + 1);
  }
  return value;
}

Value fold_case(Runtime& runtime, const Value& value, bool case_sensitive) {
  if (case_sensitive || !value.is_text()) return value;
  return Value::text(lower(runtime, value.as_text()));
}

}  // namespace llamita::jinja
