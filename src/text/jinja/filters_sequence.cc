// Filters that look at, order or cut sequences.
#include <algorithm>
#include <array>
#include <unordered_set>

#include "text/jinja/filter_table.h"
#include "text/jinja/text_ops.h"

namespace llamita::jinja {

namespace {

Value length_filter(Runtime&, const Value& input, const CallArgs& args) {
  Arguments("length", args, {}, 0);
  const auto out = length(input);
  if (!out) fail("object of type '", input.type_name(), "' has no len()");
  return Value::integer(static_cast<int64_t>(*out));
}

Value default_filter(Runtime&, const Value& input, const CallArgs& args) {
  const Arguments given("default", args, {"default_value", "boolean"}, 0);
  const bool replaced = input.is_undefined() || (given.truth_or(1, false) && !truth(input));
  if (!replaced) return input;
  return given.has(0) ? given[0] : Value::text("");
}

Value list_filter(Runtime& runtime, const Value& input, const CallArgs& args) {
  Arguments("list", args, {}, 0);
  return runtime.list(iterate(runtime, input));
}

Value first(Runtime& runtime, const Value& input, const CallArgs& args) {
  Arguments("first", args, {}, 0);
  const Values items = iterate(runtime, input);
  return items.empty() ? Value::undefined("No first item, sequence was empty.") : items.front();
}

Value last(Runtime& runtime, const Value& input, const CallArgs& args) {
  Arguments("last", args, {}, 0);
  if (!length(input)) fail("'", input.type_name(), "' object is not reversible");
  const Values items = iterate(runtime, input);
  return items.empty() ? Value::undefined("No last item, sequence was empty.") : items.back();
}

Value reverse(Runtime& runtime, const Value& input, const CallArgs& args) {
  Arguments("reverse", args, {}, 0);
  Values items = iterate(runtime, input);
  std::reverse(items.begin(), items.end());
  if (input.is_text()) return Value::text(join(runtime, Text(), items, false));
  // What has no length comes back as a list, everything else as an iterator.
  if (!length(input)) return runtime.list(std::move(items));
  return make_iterator(std::move(items), "reversed");
}

Value items_filter(Runtime& runtime, const Value& input, const CallArgs& args) {
  Arguments("items", args, {}, 0);
  Values out;
  if (!input.is_undefined()) {
    if (!input.is_dict()) fail("Can only get item pairs from a mapping.");
    for (const auto& [key, value] : input.as_dict().entries()) out.push_back(Value::tuple({key, value}));
  }
  runtime.budget().work(out.size() * 2 * sizeof(Value));
  return make_iterator(std::move(out), "generator");
}

struct Keyed {
  Value key;
  Value item;
};

void stable_sort(Runtime& runtime, std::vector<Keyed>& items, bool reverse) {
  const auto before = [&](const Keyed& a, const Keyed& b) { return less(runtime, a.key, b.key); };
  // Python sorts in reverse without turning equal items round.
  if (reverse) std::reverse(items.begin(), items.end());
  std::stable_sort(items.begin(), items.end(), before);
  if (reverse) std::reverse(items.begin(), items.end());
}

Value take_items(Runtime& runtime, std::vector<Keyed> sorted) {
  Values out;
  for (Keyed& entry : sorted) out.push_back(std::move(entry.item));
  return runtime.list(std::move(out));
}

Value sort_filter(Runtime& runtime, const Value& input, const CallArgs& args) {
  const Arguments given("sort", args, {"reverse", "case_sensitive", "attribute"}, 0);
  const bool case_sensitive = given.truth_or(1, false);
  // "a,b" sorts by several attributes.
  Values paths{given.get(2)};
  if (paths[0].is_text()) {
    const Text comma(",", true);
    paths = split(runtime, paths[0].as_text(), &comma, -1, false);
  }
  std::vector<Keyed> keyed;
  for (const Value& item : iterate(runtime, input)) {
    Values keys;
    for (const Value& path : paths) {
      keys.push_back(fold_case(runtime, lookup_path(runtime, item, path, nullptr), case_sensitive));
    }
    keyed.push_back({Value::list(std::move(keys)), item});
  }
  stable_sort(runtime, keyed, given.truth_or(0, false));
  return take_items(runtime, std::move(keyed));
}

Value dictsort(Runtime& runtime, const Value& input, const CallArgs& args) {
  const Arguments given("dictsort", args, {"case_sensitive", "by", "reverse"}, 0);
  const std::string by = given.has(1) ? given.text(1).bytes() : "key";
  if (by != "key" && by != "value") fail("You can only sort by either \"key\" or \"value\"");
  require_defined(input);
  if (!input.is_dict()) fail("dictsort takes a dict, not '", input.type_name(), "'");
  std::vector<Keyed> keyed;
  for (const auto& [key, value] : input.as_dict().entries()) {
    keyed.push_back({fold_case(runtime, by == "key" ? key : value, given.truth_or(0, false)),
                     Value::tuple({key, value})});
  }
  stable_sort(runtime, keyed, given.truth_or(2, false));
  return take_items(runtime, std::move(keyed));
}

Value unique(Runtime& runtime, const Value& input, const CallArgs& args) {
  const Arguments given("unique", args, {"case_sensitive", "attribute"}, 0);
  std::unordered_set<std::string> seen;
  Values out;
  for (const Value& item : iterate(runtime, input)) {
    const Value key =
        fold_case(runtime, lookup_path(runtime, item, given.get(1), nullptr), given.truth_or(0, false));
    std::string hash = hash_key(key);
    runtime.budget().work(hash.size());
    if (seen.insert(std::move(hash)).second) out.push_back(item);
  }
  return make_iterator(std::move(out), "generator");
}

template <bool largest>
Value extreme(Runtime& runtime, const Value& input, const CallArgs& args) {
  const Arguments given(largest ? "max" : "min", args, {"case_sensitive", "attribute"}, 0);
  const Values items = iterate(runtime, input);
  if (items.empty()) return Value::undefined("No aggregated item, sequence was empty.");
  const auto key_of = [&](const Value& item) {
    return fold_case(runtime, lookup_path(runtime, item, given.get(1), nullptr), given.truth_or(0, false));
  };
  size_t best = 0;
  Value best_key = key_of(items[0]);
  for (size_t i = 1; i < items.size(); ++i) {
    Value key = key_of(items[i]);
    if (largest ? less(runtime, best_key, key) : less(runtime, key, best_key)) {
      best = i;
      best_key = std::move(key);
    }
  }
  return items[best];
}

Value batch(Runtime& runtime, const Value& input, const CallArgs& args) {
  const Arguments given("batch", args, {"linecount", "fill_with"}, 1);
  const int64_t size = given.int_or(0, 1);
  Values out, row;
  for (const Value& item : iterate(runtime, input)) {
    if (static_cast<int64_t>(row.size()) == size) out.push_back(runtime.list(std::exchange(row, {})));
    row.push_back(item);
  }
  if (!row.empty()) {
    const auto missing = size - static_cast<int64_t>(row.size());
    if (given.has(1) && !given[1].is_none() && missing > 0) {
      runtime.budget().text(static_cast<size_t>(missing) > kMaxText
                                ? kMaxText + 1
                                : static_cast<size_t>(missing) * sizeof(Value));
      row.insert(row.end(), static_cast<size_t>(missing), given[1]);
    }
    out.push_back(runtime.list(std::move(row)));
  }
  return make_iterator(std::move(out), "generator");
}

Value slice_filter(Runtime& runtime, const Value& input, const CallArgs& args) {
  const Arguments given("slice", args, {"slices", "fill_with"}, 1);
  const Values items = iterate(runtime, input);
  const int64_t slices = given.int_or(0, 1);
  if (slices == 0) fail("slice: division by zero");
  Values out;
  const auto total = static_cast<int64_t>(items.size());
  int64_t begin = 0;
  for (int64_t i = 0; i < slices; ++i) {
    runtime.budget().step();
    const bool longer = i < total % slices;
    const int64_t end = begin + total / slices + longer;
    Values part(items.begin() + begin, items.begin() + end);
    if (given.has(1) && !given[1].is_none() && !longer) part.push_back(given[1]);
    out.push_back(runtime.list(std::move(part)));
    begin = end;
  }
  return make_iterator(std::move(out), "generator");
}

Value groupby(Runtime& runtime, const Value& input, const CallArgs& args) {
  const Arguments given("groupby", args, {"attribute", "default", "case_sensitive"}, 1);
  const Value fallback = given.get(1);
  const Value* used = fallback.is_none() ? nullptr : &fallback;
  const auto path_of = [&](const Value& item) { return lookup_path(runtime, item, given[0], used); };
  std::vector<Keyed> keyed;
  for (const Value& item : iterate(runtime, input)) {
    keyed.push_back({fold_case(runtime, path_of(item), given.truth_or(2, false)), item});
  }
  stable_sort(runtime, keyed, false);
  Values out;
  for (size_t begin = 0; begin < keyed.size();) {
    Values members;
    size_t end = begin;
    while (end < keyed.size() && equal(runtime, keyed[end].key, keyed[begin].key)) {
      members.push_back(keyed[end++].item);
    }
    if (members.empty()) members.push_back(keyed[end++].item);  // a NaN equals nothing, not even itself
    Value grouper = path_of(members[0]);
    out.push_back(Value::group(std::move(grouper), runtime.list(std::move(members))));
    begin = end;
  }
  return runtime.list(std::move(out));
}

constexpr std::array kFilters{
    Filter{"batch", batch},        Filter{"count", length_filter},
    Filter{"d", default_filter},   Filter{"default", default_filter},
    Filter{"dictsort", dictsort},  Filter{"first", first},
    Filter{"groupby", groupby},    Filter{"items", items_filter},
    Filter{"last", last},          Filter{"length", length_filter},
    Filter{"list", list_filter},   Filter{"max", extreme<true>},
    Filter{"min", extreme<false>}, Filter{"reverse", reverse},
    Filter{"slice", slice_filter}, Filter{"sort", sort_filter},
    Filter{"unique", unique},
};

}  // namespace

std::span<const Filter> sequence_filters() { return kFilters; }

}  // namespace llamita::jinja
