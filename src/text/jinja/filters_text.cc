// Filters that make text.
#include <array>

#include "text/jinja/filter_table.h"
#include "text/jinja/text_ops.h"
#include "text/jinja/unicode.h"

namespace llamita::jinja {

namespace {

using Change = Text (*)(Runtime&, const Text&);

template <Change change>
Value changed(Runtime& runtime, const Value& input, const CallArgs& args) {
  Arguments("filter", args, {}, 0);
  return Value::text(change(runtime, to_text(runtime, input)));
}

Value string(Runtime& runtime, const Value& input, const CallArgs& args) {
  Arguments("string", args, {}, 0);
  return Value::text(to_text(runtime, input));
}

Value trim(Runtime& runtime, const Value& input, const CallArgs& args) {
  const Arguments given("trim", args, {"chars"}, 0);
  const Text* chars = given.has(0) && !given[0].is_none() ? &given.text(0) : nullptr;
  return Value::text(strip(runtime, to_text(runtime, input), chars, Side::both));
}

Value replace_filter(Runtime& runtime, const Value& input, const CallArgs& args) {
  const Arguments given("replace", args, {"old", "new", "count"}, 2);
  const int64_t most = given.has(2) && !given[2].is_none() ? given.int_or(2, -1) : -1;
  return Value::text(replace(runtime, to_text(runtime, input), to_text(runtime, given[0]),
                             to_text(runtime, given[1]), most));
}

Value join_filter(Runtime& runtime, const Value& input, const CallArgs& args) {
  const Arguments given("join", args, {"d", "attribute"}, 0);
  Values items = iterate(runtime, input);
  if (given.has(1) && !given[1].is_none()) {
    for (Value& item : items) item = lookup_path(runtime, item, given[1], nullptr);
  }
  const Text separator = given.has(0) ? to_text(runtime, given[0]) : Text();
  return Value::text(join(runtime, separator, items, true));
}

// Jinja's own title case: a word begins after a blank, a dash or an opening bracket.
Text title_words(Runtime& runtime, const Text& text) {
  Text out;
  size_t begin = 0;
  const auto flush = [&](size_t end) {
    if (end > begin) out.append(capitalize(runtime, text.slice(begin, end)));
  };
  for (size_t at = 0; at < text.size();) {
    const auto [code, size] = unicode::decode(text.view(), at);
    const bool between =
        unicode::is_space(code) ||
        (code < 0x80 && std::string_view("-({[<").find(static_cast<char>(code)) != std::string_view::npos);
    if (between) {
      flush(at);
      out.append(text, at, at + size);
      begin = at + size;
    }
    at += size;
  }
  flush(text.size());
  return out;
}

Value indent(Runtime& runtime, const Value& input, const CallArgs& args) {
  const Arguments given("indent", args, {"width", "first", "blank"}, 0);
  require_defined(input);
  if (!input.is_text()) fail("indent takes a string, not '", input.type_name(), "'");
  Text indention(std::string(4, ' '), true);
  if (given.has(0) && given[0].is_text()) {
    indention = given[0].as_text();
  } else if (given.has(0)) {
    indention = binary(runtime, "*", Value::text(" "), given[0]).as_text();
  }
  Text text = input.as_text();
  text.append("\n", true);
  const Values lines = split_lines(runtime, text, false);
  const bool blank = given.truth_or(2, false);
  Text out;
  for (size_t i = 0; i < lines.size(); ++i) {
    const Text& line = lines[i].as_text();
    const bool indented = i == 0 ? given.truth_or(1, false) : blank || !line.empty();
    runtime.budget().text(out.size() + indention.size() + line.size() + 1 > kMaxText
                              ? kMaxText + 1
                              : indention.size() + line.size() + 1);
    if (i > 0) out.append("\n", true);
    if (indented) out.append(indention);
    out.append(line);
  }
  return Value::text(std::move(out));
}

Value wordcount(Runtime& runtime, const Value& input, const CallArgs& args) {
  Arguments("wordcount", args, {}, 0);
  const Text text = to_text(runtime, input);
  int64_t words = 0;
  bool inside = false;
  for (size_t at = 0; at < text.size();) {
    const auto [code, size] = unicode::decode(text.view(), at);
    const bool word = code == '_' || unicode::is_alpha(code) || unicode::is_numeric(code);
    words += word && !inside;
    inside = word;
    at += size;
  }
  return Value::integer(words);
}

Value center(Runtime& runtime, const Value& input, const CallArgs& args) {
  const Arguments given("center", args, {"width"}, 0);
  return Value::text(pad(runtime, to_text(runtime, input), given.int_or(0, 80), Text(" ", true), Side::both));
}

Value truncate(Runtime& runtime, const Value& input, const CallArgs& args) {
  const Arguments given("truncate", args, {"length", "killwords", "end", "leeway"}, 0);
  const auto items = length(input);
  if (!items) fail("truncate takes a string, not '", input.type_name(), "'");
  const int64_t length = given.int_or(0, 255);
  const Text end = given.has(2) ? given.text(2) : Text("...", true);
  const auto end_size = static_cast<int64_t>(unicode::length(end.view()));
  const int64_t leeway = given.has(3) && !given[3].is_none() ? given.int_or(3, 5) : 5;
  if (length < end_size || leeway < 0)
    fail("truncate: the length is shorter than the ending, or leeway is negative");
  const auto size = static_cast<int64_t>(*items);
  if (size - leeway <= length) return input;
  if (!input.is_text()) fail("truncate takes a string, not '", input.type_name(), "'");
  const Value kept = get_slice(runtime, input, Value(), Value::integer(length - end_size), Value());
  Text out = kept.as_text();
  if (!given.truth_or(1, false)) {
    const Text blank(" ", true);
    out = split(runtime, out, &blank, 1, true)[0].as_text();
  }
  out.append(end);
  return runtime.text(std::move(out));
}

Value format_filter(Runtime& runtime, const Value& input, const CallArgs& args) {
  if (!args.positional.empty() && !args.keyword.empty()) {
    fail("format takes positional or keyword arguments, not both");
  }
  const Text format = to_text(runtime, input);
  if (args.keyword.empty())
    return runtime.text(format_percent(runtime, format, Value::tuple(args.positional)));
  Dict named;
  for (const auto& [name, value] : args.keyword) named.set(Value::text(name), value);
  return runtime.text(format_percent(runtime, format, Value::dict(std::move(named))));
}

std::string json_separator(const Value& value) {
  if (!value.is_text()) fail("tojson: separators are strings");
  return value.as_text().bytes();
}

Value tojson(Runtime& runtime, const Value& input, const CallArgs& args) {
  const Arguments given("tojson", args, {"ensure_ascii", "indent", "separators", "sort_keys"}, 0);
  JsonStyle style;
  style.ascii_only = given.truth_or(0, false);
  style.sort_keys = given.truth_or(3, false);
  if (given.has(1) && !given[1].is_none()) {
    style.indent = given[1].is_text() ? given[1].as_text().bytes()
                                      : binary(runtime, "*", Value::text(" "), given[1]).as_text().bytes();
    style.item_separator = ",";
  }
  if (given.has(2) && !given[2].is_none()) {
    const Values pair = iterate(runtime, given[2]);
    if (pair.size() != 2) fail("tojson: separators are a pair of strings");
    style.item_separator = json_separator(pair[0]);
    style.key_separator = json_separator(pair[1]);
  }
  return Value::text(to_json(runtime, input, style));
}

// Percent-encoded UTF-8; in a query a blank becomes '+' and a slash is encoded as well.
Text url_quote(Runtime& runtime, const Text& text, bool query) {
  runtime.budget().text(text.size() * 3);
  Text out;
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text.bytes()[at];
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                       std::string_view("_.-~").find(c) != std::string_view::npos || (c == '/' && !query);
    constexpr std::string_view kHex = "0123456789ABCDEF";
    const auto byte = static_cast<unsigned char>(c);
    std::string shown = plain ? std::string(1, c) : std::string{'%', kHex[byte >> 4], kHex[byte & 15]};
    if (query && c == ' ') shown = "+";
    out.append(shown, text.trusted_at(at));
  }
  return out;
}

Value urlencode(Runtime& runtime, const Value& input, const CallArgs& args) {
  Arguments("urlencode", args, {}, 0);
  if (input.is_text() || !is_iterable(input)) {
    return Value::text(url_quote(runtime, to_text(runtime, input), false));
  }
  const Value pairs = input.is_dict() ? call_filter(runtime, "items", input, {}) : input;
  Values parts;
  for (const Value& pair : iterate(runtime, pairs)) {
    const Values items = iterate(runtime, pair);
    if (items.size() != 2) fail("urlencode takes pairs, got ", items.size(), " items");
    Text part = url_quote(runtime, to_text(runtime, items[0]), true);
    part.append("=", true);
    part.append(url_quote(runtime, to_text(runtime, items[1]), true));
    parts.push_back(Value::text(std::move(part)));
  }
  return Value::text(join(runtime, Text("&", true), parts, false));
}

constexpr std::array kFilters{
    Filter{"capitalize", changed<capitalize>},
    Filter{"center", center},
    Filter{"e", changed<escape_html>},
    Filter{"escape", changed<escape_html>},
    Filter{"forceescape", changed<escape_html>},
    Filter{"format", format_filter},
    Filter{"indent", indent},
    Filter{"join", join_filter},
    Filter{"lower", changed<lower>},
    Filter{"replace", replace_filter},
    Filter{"safe", string},
    Filter{"string", string},
    Filter{"title", changed<title_words>},
    Filter{"tojson", tojson},
    Filter{"trim", trim},
    Filter{"truncate", truncate},
    Filter{"upper", changed<upper>},
    Filter{"urlencode", urlencode},
    Filter{"wordcount", wordcount},
};

}  // namespace

std::span<const Filter> text_filters() { return kFilters; }

}  // namespace llamita::jinja
