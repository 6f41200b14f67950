// Methods of str.
#include <algorithm>
#include <array>

#include "text/jinja/arguments.h"
#include "text/jinja/method_table.h"
#include "text/jinja/text_ops.h"
#include "text/jinja/unicode.h"

namespace llamita::jinja {

namespace {

using Change = Text (*)(Runtime&, const Text&);

template <Change change>
Value changed(Runtime& runtime, const Value& self, const CallArgs& args) {
  Arguments("this method", args, {}, 0);
  return Value::text(change(runtime, self.as_text()));
}

template <Side side>
Value stripped(Runtime& runtime, const Value& self, const CallArgs& args) {
  const Arguments given("strip", args, {"chars"}, 0);
  const Text* chars = given.has(0) && !given[0].is_none() ? &given.text(0) : nullptr;
  return Value::text(strip(runtime, self.as_text(), chars, side));
}

template <bool from_right>
Value split_method(Runtime& runtime, const Value& self, const CallArgs& args) {
  const Arguments given("split", args, {"sep", "maxsplit"}, 0);
  const Text* separator = given.has(0) && !given[0].is_none() ? &given.text(0) : nullptr;
  return runtime.list(split(runtime, self.as_text(), separator, given.int_or(1, -1), from_right));
}

Value splitlines(Runtime& runtime, const Value& self, const CallArgs& args) {
  const Arguments given("splitlines", args, {"keepends"}, 0);
  return runtime.list(split_lines(runtime, self.as_text(), given.truth_or(0, false)));
}

// The part of the text that start and end arguments (code points) select; nullopt when start lies behind.
struct Window {
  size_t begin, end;  // bytes
  int64_t start;      // code points
};
std::optional<Window> window(Runtime& runtime, const Text& text, const Arguments& given) {
  runtime.budget().work(text.size());
  if (!given.has(1) && !given.has(2)) return Window{0, text.size(), 0};
  const auto offsets = unicode::offsets(text.view());
  const auto size = static_cast<int64_t>(offsets.size()) - 1;
  const auto bound = [&](size_t i, int64_t fallback) {
    const int64_t at = given.has(i) && !given[i].is_none() ? given.int_or(i, fallback) : fallback;
    return at < 0 ? std::max<int64_t>(at + size, 0) : at;
  };
  const int64_t start = bound(1, 0);
  const int64_t end = std::min(bound(2, size), size);
  if (start > end) return std::nullopt;
  return Window{offsets[static_cast<size_t>(start)], offsets[static_cast<size_t>(end)], start};
}

template <bool at_end>
Value affix(Runtime& runtime, const Value& self, const CallArgs& args) {
  const Arguments given(at_end ? "endswith" : "startswith", args, {"affix", "start", "end"}, 1);
  require_defined(given[0]);
  if (!given[0].is_text() && !given[0].is_tuple())
    fail("startswith() and endswith() take a string or a tuple");
  const Values affixes = given[0].is_tuple() ? given[0].as_items() : Values{given[0]};
  const auto part = window(runtime, self.as_text(), given);
  for (const Value& one : affixes) {
    if (!one.is_text()) fail("startswith() and endswith() take a tuple of strings");
    if (!part) continue;
    const auto text = self.as_text().view().substr(part->begin, part->end - part->begin);
    const auto wanted = one.as_text().view();
    if (wanted.size() > text.size()) continue;
    if (text.substr(at_end ? text.size() - wanted.size() : 0, wanted.size()) == wanted)
      return Value::boolean(true);
  }
  return Value::boolean(false);
}

template <bool last, bool must>
Value find_method(Runtime& runtime, const Value& self, const CallArgs& args) {
  const Arguments given("find", args, {"sub", "start", "end"}, 1);
  const Text& sub = given.text(0);
  if (const auto part = window(runtime, self.as_text(), given)) {
    const auto text = self.as_text().view().substr(part->begin, part->end - part->begin);
    const auto found = last ? find_last_bytes(text, sub.view()) : find_bytes(text, sub.view());
    if (found) {
      return Value::integer(part->start + static_cast<int64_t>(unicode::length(text.substr(0, *found))));
    }
  }
  if (must) fail("substring not found");
  return Value::integer(-1);
}

Value count(Runtime& runtime, const Value& self, const CallArgs& args) {
  const Arguments given("count", args, {"sub", "start", "end"}, 1);
  const auto sub = given.text(0).view();
  const auto part = window(runtime, self.as_text(), given);
  if (!part) return Value::integer(0);
  const auto text = self.as_text().view().substr(part->begin, part->end - part->begin);
  if (sub.empty()) return Value::integer(static_cast<int64_t>(unicode::length(text)) + 1);
  int64_t out = 0;
  for (auto at = find_bytes(text, sub); at; at = find_bytes(text, sub, *at + sub.size())) ++out;
  return Value::integer(out);
}

Value replace_method(Runtime& runtime, const Value& self, const CallArgs& args) {
  const Arguments given("replace", args, {"old", "new", "count"}, 2);
  return Value::text(replace(runtime, self.as_text(), given.text(0), given.text(1), given.int_or(2, -1)));
}

Value join_method(Runtime& runtime, const Value& self, const CallArgs& args) {
  const Arguments given("join", args, {"iterable"}, 1);
  if (!is_iterable(given[0])) fail("join() takes something to iterate over");
  return Value::text(join(runtime, self.as_text(), iterate(runtime, given[0]), false));
}

template <bool at_end>
Value remove_affix(Runtime&, const Value& self, const CallArgs& args) {
  const Arguments given("removeprefix", args, {"affix"}, 1);
  const Text& text = self.as_text();
  const auto affix = given.text(0).view();
  if (affix.size() > text.size()) return self;
  const size_t cut = text.size() - affix.size();
  if (text.view().substr(at_end ? cut : 0, affix.size()) != affix) return self;
  return Value::text(at_end ? text.slice(0, cut) : text.slice(affix.size(), text.size()));
}

template <bool from_right>
Value partition(Runtime& runtime, const Value& self, const CallArgs& args) {
  const Arguments given("partition", args, {"sep"}, 1);
  const Text& text = self.as_text();
  const Text& separator = given.text(0);
  if (separator.empty()) fail("empty separator");
  runtime.budget().work(text.size());
  const auto found =
      from_right ? find_last_bytes(text.view(), separator.view()) : find_bytes(text.view(), separator.view());
  const Value nothing = Value::text("");
  if (!found)
    return Value::tuple(from_right ? Values{nothing, nothing, self} : Values{self, nothing, nothing});
  const size_t after = *found + separator.size();
  return Value::tuple({Value::text(text.slice(0, *found)), Value::text(text.slice(*found, after)),
                       Value::text(text.slice(after, text.size()))});
}

template <Side side>
Value padded(Runtime& runtime, const Value& self, const CallArgs& args) {
  const Arguments given("center", args, {"width", "fillchar"}, 1);
  const Text space(" ", true);
  return Value::text(
      pad(runtime, self.as_text(), given.int_or(0, 0), given.has(1) ? given.text(1) : space, side));
}

Value zfill(Runtime& runtime, const Value& self, const CallArgs& args) {
  const Arguments given("zfill", args, {"width"}, 1);
  const Text& text = self.as_text();
  const bool sign = !text.empty() && (text.bytes()[0] == '-' || text.bytes()[0] == '+');
  Text out = sign ? text.slice(0, 1) : Text();
  out.append(pad(runtime, text.slice(out.size(), text.size()), given.int_or(0, 0) - sign, Text("0", true),
                 Side::right));
  return Value::text(std::move(out));
}

using Class = bool (*)(uint32_t);

template <Class is>
Value every(Runtime& runtime, const Value& self, const CallArgs& args) {
  Arguments("this method", args, {}, 0);
  const auto text = self.as_text().view();
  runtime.budget().work(text.size());
  for (size_t at = 0; at < text.size(); at += unicode::decode(text, at).length) {
    if (!is(unicode::decode(text, at).code)) return Value::boolean(false);
  }
  return Value::boolean(!text.empty());
}

bool is_alnum(uint32_t code) { return unicode::is_alpha(code) || unicode::is_numeric(code); }
bool is_printable(uint32_t code) { return code == ' ' || unicode::is_printable(code); }

Value isprintable(Runtime& runtime, const Value& self, const CallArgs& args) {
  if (self.as_text().empty()) return Value::boolean(true);
  return every<is_printable>(runtime, self, args);
}

Value isascii(Runtime&, const Value& self, const CallArgs& args) {
  Arguments("isascii", args, {}, 0);
  const auto& bytes = self.as_text().bytes();
  return Value::boolean(
      std::all_of(bytes.begin(), bytes.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; }));
}

template <bool upper>
Value is_case(Runtime& runtime, const Value& self, const CallArgs& args) {
  Arguments("this method", args, {}, 0);
  return Value::boolean(call_test(runtime, upper ? "upper" : "lower", self, {}));
}

Value istitle(Runtime& runtime, const Value& self, const CallArgs& args) {
  Arguments("istitle", args, {}, 0);
  const auto text = self.as_text().view();
  runtime.budget().work(text.size());
  bool inside = false, any = false;
  for (size_t at = 0; at < text.size(); at += unicode::decode(text, at).length) {
    const uint32_t code = unicode::decode(text, at).code;
    const bool begins = unicode::is_upper(code) || unicode::is_title(code);
    if (begins ? inside : unicode::is_lower(code) && !inside) return Value::boolean(false);
    inside = begins || unicode::is_lower(code);
    any |= inside;
  }
  return Value::boolean(any);
}

Value format(Runtime& runtime, const Value& self, const CallArgs& args) {
  return runtime.text(format_braces(runtime, self.as_text(), args));
}

Value format_map(Runtime& runtime, const Value& self, const CallArgs& args) {
  const Arguments given("format_map", args, {"mapping"}, 1);
  if (!given[0].is_dict()) fail("format_map() takes a dict");
  CallArgs named;
  for (const auto& [key, value] : given[0].as_dict().entries()) {
    if (key.is_text()) named.keyword.emplace_back(key.as_text().bytes(), value);
  }
  return runtime.text(format_braces(runtime, self.as_text(), named));
}

constexpr std::array kMethods{
    Method{"capitalize", changed<capitalize>},
    Method{"casefold", changed<lower>},
    Method{"center", padded<Side::both>},
    Method{"count", count},
    Method{"endswith", affix<true>},
    Method{"find", find_method<false, false>},
    Method{"format", format},
    Method{"format_map", format_map},
    Method{"index", find_method<false, true>},
    Method{"isalnum", every<is_alnum>},
    Method{"isalpha", every<unicode::is_alpha>},
    Method{"isascii", isascii},
    Method{"isdecimal", every<unicode::is_decimal>},
    Method{"isdigit", every<unicode::is_digit>},
    Method{"islower", is_case<false>},
    Method{"isnumeric", every<unicode::is_numeric>},
    Method{"isprintable", isprintable},
    Method{"isspace", every<unicode::is_space>},
    Method{"istitle", istitle},
    Method{"isupper", is_case<true>},
    Method{"join", join_method},
    Method{"ljust", padded<Side::left>},
    Method{"lower", changed<lower>},
    Method{"lstrip", stripped<Side::left>},
    Method{"partition", partition<false>},
    Method{"removeprefix", remove_affix<false>},
    Method{"removesuffix", remove_affix<true>},
    Method{"replace", replace_method},
    Method{"rfind", find_method<true, false>},
    Method{"rindex", find_method<true, true>},
    Method{"rjust", padded<Side::right>},
    Method{"rpartition", partition<true>},
    Method{"rsplit", split_method<true>},
    Method{"rstrip", stripped<Side::right>},
    Method{"split", split_method<false>},
    Method{"splitlines", splitlines},
    Method{"startswith", affix<false>},
    Method{"strip", stripped<Side::both>},
    Method{"swapcase", changed<swap_case>},
    Method{"title", changed<title>},
    Method{"upper", changed<upper>},
    Method{"zfill", zfill},
};

}  // namespace

std::span<const Method> string_methods() { return kMethods; }

}  // namespace llamita::jinja
