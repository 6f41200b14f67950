// Values as text: str(), repr() and json.dumps() of Python, character for character.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "text/jinja/runtime.h"
#include "text/jinja/unicode.h"

namespace llamita::jinja {

namespace {

// True when no string inside is a user's.
bool all_trusted(Runtime& runtime, const Value& value) {
  runtime.budget().step();
  if (value.is_text()) return value.as_text().trusted();
  if (value.is_list() || value.is_tuple()) {
    return std::all_of(value.as_items().begin(), value.as_items().end(),
                       [&](const Value& item) { return all_trusted(runtime, item); });
  }
  if (value.is_dict()) {
    for (const auto& [key, item] : value.as_dict().entries()) {
      if (!all_trusted(runtime, key) || !all_trusted(runtime, item)) return false;
    }
  }
  if (value.is_object() && value.as_object()->sequence()) {
    const Values& items = *value.as_object()->sequence();
    return std::all_of(items.begin(), items.end(),
                       [&](const Value& item) { return all_trusted(runtime, item); });
  }
  return true;
}

std::string hex_escape(uint32_t code) {
  char buffer[16];
  const char* format = code < 0x100 ? "\\x%02x" : code < 0x10000 ? "\\u%04x" : "\\U%08x";
  std::snprintf(buffer, sizeof buffer, format, code);
  return buffer;
}

class Printer {
 public:
  Printer(Runtime& runtime, bool trusted) : runtime_(runtime), trusted_(trusted) {}

  void plain(std::string_view text) {
    runtime_.budget().text(out_.size() + text.size() > kMaxText ? kMaxText + 1 : text.size());
    out_.append(text, trusted_);
  }

  void repr(const Value& value) {
    runtime_.budget().step();
    if (value.is_text()) {
      quoted(value.as_text());
    } else if (value.is_list()) {
      bracketed("[", value.as_items(), "]");
    } else if (value.is_tuple()) {
      bracketed("(", value.as_items(), value.as_items().size() == 1 ? ",)" : ")");
    } else if (value.is_dict()) {
      plain("{");
      bool first = true;
      for (const auto& [key, item] : value.as_dict().entries()) {
        if (!first) plain(", ");
        first = false;
        repr(key);
        plain(": ");
        repr(item);
      }
      plain("}");
    } else if (value.is_object() && value.as_object()->sequence() && !value.as_object()->indexable()) {
      plain(value.type_name() + "(");
      bracketed("[", *value.as_object()->sequence(), "]");
      plain(")");
    } else {
      plain(scalar(value));
    }
  }

  static std::string scalar(const Value& value) {
    if (value.is_none()) return "None";
    if (value.is_undefined()) return "Undefined";
    if (value.is_bool()) return value.as_bool() ? "True" : "False";
    if (value.is_int()) return cat(value.as_int());
    return value.is_float() ? format_float(value.as_double()) : value.as_object()->repr();
  }

  Text take() { return std::move(out_); }

 private:
  void bracketed(std::string_view open, const Values& items, std::string_view close) {
    plain(open);
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) plain(", ");
      repr(items[i]);
    }
    plain(close);
  }

  void quoted(const Text& text) {
    const bool doubled =
        text.bytes().find('\'') != std::string::npos && text.bytes().find('"') == std::string::npos;
    const char quote = doubled ? '"' : '\'';
    plain(std::string_view(&quote, 1));
    for (size_t at = 0; at < text.size();) {
      const auto [code, size] = unicode::decode(text.view(), at);
      std::string shown;
      if (code == '\n') {
        shown = "\\n";
      } else if (code == '\r') {
        shown = "\\r";
      } else if (code == '\t') {
        shown = "\\t";
      } else if (code == '\\' || code == static_cast<unsigned char>(quote)) {
        shown = {'\\', static_cast<char>(code)};
      } else if (code == ' ' || unicode::is_printable(code)) {
        shown = text.bytes().substr(at, size);
      } else {
        shown = hex_escape(code);
      }
      runtime_.budget().work(shown.size());
      out_.append(shown, text.trusted_at(at));
      at += size;
    }
    plain(std::string_view(&quote, 1));
  }

  Runtime& runtime_;
  bool trusted_;
  Text out_;
};

class JsonPrinter {
 public:
  JsonPrinter(Runtime& runtime, const JsonStyle& style, bool trusted)
      : runtime_(runtime), style_(style), trusted_(trusted) {}

  void value(const Value& value, size_t level) {
    runtime_.budget().step();
    if (value.is_text()) {
      quoted(value.as_text());
    } else if (value.is_list() || value.is_tuple()) {
      const Values& items = value.as_items();
      group('[', ']', items.size(), level, [&](size_t i) { this->value(items[i], level + 1); });
    } else if (value.is_dict()) {
      dict(value.as_dict(), level);
    } else if (value.is_undefined() || value.is_object()) {
      fail("an object of type ", value.type_name(), " is not JSON serializable");
    } else {
      plain(scalar(value));
    }
  }

  Text take() { return std::move(out_); }

 private:
  void plain(std::string_view text) {
    runtime_.budget().text(out_.size() + text.size() > kMaxText ? kMaxText + 1 : text.size());
    out_.append(text, trusted_);
  }

  static std::string scalar(const Value& value) {
    if (value.is_none()) return "null";
    if (value.is_bool()) return value.as_bool() ? "true" : "false";
    if (value.is_int()) return cat(value.as_int());
    const double number = value.as_double();
    if (std::isnan(number)) return "NaN";
    if (std::isinf(number)) return number > 0 ? "Infinity" : "-Infinity";
    return format_float(number);
  }

  template <class Item>
  void group(char open, char close, size_t count, size_t level, Item item) {
    plain(std::string_view(&open, 1));
    for (size_t i = 0; i < count; ++i) {
      if (i > 0) plain(style_.item_separator);
      new_line(level + 1);
      item(i);
    }
    if (count > 0) new_line(level);
    plain(std::string_view(&close, 1));
  }

  void new_line(size_t level) {
    if (!style_.indent) return;
    plain("\n");
    for (size_t i = 0; i < level; ++i) plain(*style_.indent);
  }

  void dict(const Dict& dict, size_t level) {
    std::vector<const Dict::Entry*> entries;
    for (const auto& entry : dict.entries()) entries.push_back(&entry);
    if (style_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(),
                       [&](const auto* a, const auto* b) { return less(runtime_, a->first, b->first); });
    }
    group('{', '}', entries.size(), level, [&](size_t i) {
      key(entries[i]->first);
      plain(style_.key_separator);
      value(entries[i]->second, level + 1);
    });
  }

  void key(const Value& key) {
    if (key.is_text()) return quoted(key.as_text());
    if (!key.is_none() && !key.is_number())
      fail("a key of type ", key.type_name(), " is not JSON serializable");
    plain("\"" + scalar(key) + "\"");
  }

  void quoted(const Text& text) {
    plain("\"");
    for (size_t at = 0; at < text.size();) {
      const auto [code, size] = unicode::decode(text.view(), at);
      const std::string shown = escaped(code, text.view().substr(at, size));
      runtime_.budget().text(out_.size() + shown.size() > kMaxText ? kMaxText + 1 : shown.size());
      out_.append(shown, text.trusted_at(at));
      at += size;
    }
    plain("\"");
  }

  std::string escaped(uint32_t code, std::string_view as_is) const {
    constexpr std::string_view kNames = "\"\\nrtbf";
    constexpr std::string_view kValues = "\"\\\n\r\t\b\f";
    if (code < 0x80) {
      const size_t name = kValues.find(static_cast<char>(code));
      if (name != std::string_view::npos) return {'\\', kNames[name]};
    }
    if (code >= 0x20 && (!style_.ascii_only || code < 0x7F)) return std::string(as_is);
    if (code == 0x7F) return std::string(as_is);
    char buffer[16];
    if (code < 0x10000) {
      std::snprintf(buffer, sizeof buffer, "\\u%04x", code);
    } else {
      std::snprintf(buffer, sizeof buffer, "\\u%04x\\u%04x", 0xD800 + ((code - 0x10000) >> 10),
                    0xDC00 + ((code - 0x10000) & 0x3FF));
    }
    return buffer;
  }

  Runtime& runtime_;
  const JsonStyle& style_;
  bool trusted_;
  Text out_;
};

}  // namespace

std::string format_float(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  std::string_view text(buffer, static_cast<size_t>(end - buffer));
  std::string out;
  if (text[0] == '-') {
    out = "-";
    text.remove_prefix(1);
  }
  const size_t e = text.find('e');
  std::string digits(1, text[0]);
  if (e > 2) digits += text.substr(2, e - 2);
  int exponent = 0;
  const char* first = text.data() + e + (text[e + 1] == '+' ? 2 : 1);
  std::from_chars(first, text.data() + text.size(), exponent);
  // Python switches to an exponent below 1e-4 and from 1e16 on.
  if (exponent < -4 || exponent >= 16) {
    out += digits[0];
    if (digits.size() > 1) out += "." + digits.substr(1);
    char tail[16];
    std::snprintf(tail, sizeof tail, "e%c%02d", exponent < 0 ? '-' : '+', std::abs(exponent));
    return out + tail;
  }
  if (exponent < 0) return out + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  const size_t whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() <= whole) return out + digits + std::string(whole - digits.size(), '0') + ".0";
  return out + digits.substr(0, whole) + "." + digits.substr(whole);
}

Text repr(Runtime& runtime, const Value& value) {
  Printer printer(runtime, all_trusted(runtime, value));
  printer.repr(value);
  return printer.take();
}

Text to_text(Runtime& runtime, const Value& value) {
  if (value.is_text()) return value.as_text();
  if (value.is_undefined()) return {};
  return repr(runtime, value);
}

Text to_json(Runtime& runtime, const Value& value, const JsonStyle& style) {
  JsonPrinter printer(runtime, style, all_trusted(runtime, value));
  printer.value(value, 0);
  return printer.take();
}

}  // namespace llamita::jinja
