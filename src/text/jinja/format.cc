// "%s" % value and "{}".format(value). Both end in one place: a conversion letter with fill, width,
// precision.
#include <charconv>
#include <cmath>
#include <cstdio>

#include "text/jinja/arguments.h"
#include "text/jinja/text_ops.h"
#include "text/jinja/unicode.h"

namespace llamita::jinja {

namespace {

struct Spec {
  std::string fill = " ";
  char align = '\0';  // < > ^ = or none
  char sign = '-';    // - + or blank
  bool alternate = false;
  char grouping = '\0';  // , or _
  int64_t width = 0;
  int64_t precision = -1;
  char type = '\0';
};

constexpr int64_t kMaxField = 4096;  // width and precision; a number never needs more

int64_t read_number(std::string_view text, size_t& at) {
  int64_t out = 0;
  const auto result = std::from_chars(text.data() + at, text.data() + text.size(), out);
  if (result.ec == std::errc::result_out_of_range || out > kMaxField) {
    fail("a format's width and precision are at most ", kMaxField);
  }
  at = static_cast<size_t>(result.ptr - text.data());
  return out;
}

bool digit_at(std::string_view text, size_t at) {
  return at < text.size() && text[at] >= '0' && text[at] <= '9';
}

std::string grouped(std::string digits, char separator, size_t size) {
  const size_t end = std::min(digits.find_first_of(".e"), digits.size());
  for (size_t i = end; i > size; i -= size) digits.insert(i - size, 1, separator);
  return digits;
}

std::string unsigned_in_base(uint64_t value, int base, bool upper) {
  char buffer[72];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, base).ptr;
  std::string out(buffer, end);
  if (upper) {
    for (char& c : out) c = c >= 'a' ? static_cast<char>(c - 32) : c;
  }
  return out;
}

std::string integer_digits(uint64_t magnitude, const Spec& spec) {
  switch (spec.type) {
    case 'x': return (spec.alternate ? "0x" : "") + unsigned_in_base(magnitude, 16, false);
    case 'X': return (spec.alternate ? "0X" : "") + unsigned_in_base(magnitude, 16, true);
    case 'o': return (spec.alternate ? "0o" : "") + unsigned_in_base(magnitude, 8, false);
    case 'b': return (spec.alternate ? "0b" : "") + unsigned_in_base(magnitude, 2, false);
    default: return unsigned_in_base(magnitude, 10, false);
  }
}

std::string real_digits(double magnitude, const Spec& spec) {
  if (spec.type == '\0' && spec.precision < 0) return format_float(magnitude);
  if (!std::isfinite(magnitude)) return std::isnan(magnitude) ? "nan" : "inf";
  const char type = spec.type == '\0' ? 'g' : spec.type == '%' ? 'f' : spec.type;
  const char pattern[] = {'%', '.', '*', type, '\0'};
  const double shown = spec.type == '%' ? magnitude * 100 : magnitude;
  const int precision = spec.precision < 0 ? 6 : static_cast<int>(spec.precision);
  const int size = std::snprintf(nullptr, 0, pattern, precision, shown);
  std::string out(static_cast<size_t>(size) + 1, '\0');
  std::snprintf(out.data(), out.size(), pattern, precision, shown);
  out.pop_back();
  // Without a letter Python keeps a float recognisable as one.
  if (spec.type == '\0' && out.find_first_of(".en") == std::string::npos) out += ".0";
  return spec.type == '%' ? out + "%" : out;
}

Text aligned(Runtime& runtime, const std::string& sign, const Text& body, const Spec& spec, char standard) {
  const char align = spec.align ? spec.align : standard;
  const Text fill(spec.fill, true);
  Text whole(sign, true);
  if (align == '=') {
    whole.append(pad(runtime, body, spec.width - static_cast<int64_t>(sign.size()), fill, Side::right));
    return whole;
  }
  whole.append(body);
  const auto size = static_cast<int64_t>(unicode::length(whole.view()));
  if (align == '^' && spec.width > size) {
    // format() puts the odd character to the right.
    whole = pad(runtime, whole, size + (spec.width - size) / 2, fill, Side::right);
    return pad(runtime, whole, spec.width, fill, Side::left);
  }
  return pad(runtime, whole, spec.width, fill, align == '>' ? Side::right : Side::left);
}

Text format_number(Runtime& runtime, const Value& value, const Spec& spec) {
  std::string digits;
  bool negative;
  constexpr std::string_view kReal = "eEfFgG%";
  const bool real = value.is_float() || (spec.type && kReal.find(spec.type) != std::string_view::npos);
  if (real) {
    const double number = value.as_double();
    negative = std::signbit(number) && !std::isnan(number);
    digits = real_digits(std::abs(number), spec);
  } else {
    const int64_t number = value.as_int();
    negative = number < 0;
    digits =
        integer_digits(negative ? 0 - static_cast<uint64_t>(number) : static_cast<uint64_t>(number), spec);
  }
  if (spec.grouping) {
    const bool decimal = real || spec.type == '\0' || spec.type == 'd';
    digits = grouped(std::move(digits), spec.grouping, decimal ? 3 : 4);
  }
  const std::string sign = negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign);
  return aligned(runtime, sign, Text(digits, true), spec, '>');
}

Text clipped(Runtime& runtime, Text text, int64_t precision) {
  if (precision < 0) return text;
  return get_slice(runtime, Value::text(std::move(text)), Value(), Value::integer(precision), Value())
      .as_text();
}

class PercentFormatter {
 public:
  PercentFormatter(Runtime& runtime, const Text& format, const Value& args)
      : runtime_(runtime), format_(format), text_(format.view()), args_(args) {}

  Text run() {
    Text out;
    while (at_ < text_.size()) {
      const size_t percent = std::min(text_.find('%', at_), text_.size());
      out.append(format_, at_, percent);
      at_ = percent + 1;
      if (percent == text_.size()) break;
      if (at_ == text_.size()) fail("incomplete format");
      const Text piece = conversion();
      runtime_.budget().text(out.size() + piece.size());
      out.append(piece);
    }
    const bool all_used = args_.is_tuple() ? used_ == args_.as_items().size()
                                           : args_.is_dict() || args_.is_list() || args_.is_object() ||
                                                 args_.is_undefined() || used_ > 0;
    if (!all_used) fail("not all arguments were converted by the format");
    return out;
  }

 private:
  Text conversion() {
    Spec spec;
    spec.align = '>';
    const Value* named = nullptr;
    if (text_[at_] == '(') named = &named_argument();
    bool zero = false, left = false;
    for (; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (c == '-')
        left = true;
      else if (c == '0')
        zero = true;
      else if (c == '+')
        spec.sign = '+';
      else if (c == ' ')
        spec.sign = spec.sign == '+' ? '+' : ' ';
      else if (c == '#')
        spec.alternate = true;
      else
        break;
    }
    if (digit_at(text_, at_)) spec.width = read_number(text_, at_);
    if (at_ < text_.size() && text_[at_] == '.') {
      ++at_;
      spec.precision = digit_at(text_, at_) ? read_number(text_, at_) : 0;
    }
    if (at_ == text_.size()) fail("incomplete format");
    const char type = text_[at_++];
    if (left) spec.align = '<';
    if (type == '%') return Text("%", format_.trusted_at(at_ - 1));
    const Value& value = named ? *named : next_argument();
    if (type == 's' || type == 'r' || type == 'a') {
      Text text = type == 's' ? to_text(runtime_, value) : repr(runtime_, value);
      return aligned(runtime_, "", clipped(runtime_, std::move(text), spec.precision), spec, '>');
    }
    if (type == 'c') return character(value, spec);
    if (zero && !left) {
      spec.fill = "0";
      spec.align = '=';
    }
    return number(value, type, spec);
  }

  Text character(const Value& value, const Spec& spec) {
    if (value.is_text() && unicode::length(value.as_text().view()) == 1) {
      return aligned(runtime_, "", value.as_text(), spec, '>');
    }
    const int64_t code = to_index(value, "%c");
    if (code < 0 || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
      fail("%c takes a character's number");
    std::string bytes;
    unicode::encode(static_cast<uint32_t>(code), bytes);
    return aligned(runtime_, "", Text(bytes, false), spec, '>');
  }

  Text number(const Value& value, char type, Spec spec) {
    require_defined(value);
    constexpr std::string_view kIntegers = "diuxXo", kReals = "eEfFgG";
    if (kIntegers.find(type) != std::string_view::npos) {
      const bool whole = type == 'd' || type == 'i' || type == 'u';
      spec.type = whole ? 'd' : type;
      Value integer = value;
      if (whole && value.is_float()) integer = call_filter(runtime_, "int", value, {});
      if (!integer.is_integral()) fail("%", type, " takes an integer, not '", value.type_name(), "'");
      return format_number(runtime_, integer, spec);
    }
    if (kReals.find(type) == std::string_view::npos) fail("the format character '", type, "' is not known");
    if (!value.is_number()) fail("%", type, " takes a number, not '", value.type_name(), "'");
    spec.type = type;
    return format_number(runtime_, value, spec);
  }

  const Value& named_argument() {
    const size_t close = text_.find(')', at_);
    if (close == std::string_view::npos) fail("incomplete format key");
    if (!args_.is_dict()) fail("the format takes a dict");
    const Value* found = args_.as_dict().find(text_.substr(at_ + 1, close - at_ - 1));
    if (!found) fail("the format's key '", text_.substr(at_ + 1, close - at_ - 1), "' is missing");
    at_ = close + 1;
    return *found;
  }

  const Value& next_argument() {
    const size_t i = used_++;
    if (args_.is_tuple() ? i >= args_.as_items().size() : i > 0) fail("not enough arguments for the format");
    return args_.is_tuple() ? args_.as_items()[i] : args_;
  }

  Runtime& runtime_;
  const Text& format_;
  std::string_view text_;
  const Value& args_;
  size_t at_ = 0;
  size_t used_ = 0;
};

class BraceFormatter {
 public:
  BraceFormatter(Runtime& runtime, const Text& format, const CallArgs& args)
      : runtime_(runtime), format_(format), text_(format.view()), args_(args) {}

  Text run() {
    Text out;
    for (size_t at = 0; at < text_.size();) {
      const size_t brace = std::min(text_.find_first_of("{}", at), text_.size());
      out.append(format_, at, brace);
      at = brace;
      if (at == text_.size()) break;
      if (at + 1 < text_.size() && text_[at + 1] == text_[at]) {
        out.append(format_, at, at + 1);
        at += 2;
        continue;
      }
      if (text_[at] == '}') fail("a single '}' stands in the format");
      const size_t close = text_.find_first_of("{}", at + 1);
      if (close == std::string_view::npos || text_[close] == '{') {
        fail("a format field is never closed, or holds another one, which is not supported");
      }
      const Text piece = field(text_.substr(at + 1, close - at - 1));
      runtime_.budget().text(out.size() + piece.size());
      out.append(piece);
      at = close + 1;
    }
    return out;
  }

 private:
  Text field(std::string_view text) {
    const size_t mark = std::min(text.find_first_of("!:"), text.size());
    const Value value = lookup(text.substr(0, mark));
    char conversion = '\0';
    size_t at = mark;
    if (at < text.size() && text[at] == '!') {
      if (at + 1 >= text.size()) fail("a format field ends after '!'");
      conversion = text[at + 1];
      at += 2;
      if (conversion != 'r' && conversion != 's' && conversion != 'a')
        fail("a format's conversion is !r or !s");
      if (at < text.size() && text[at] != ':') fail("a format's conversion is followed by ':' or '}'");
    }
    const Spec spec = parse_spec(at < text.size() ? text.substr(at + 1) : std::string_view());
    if (conversion) {
      return show(Value::text(conversion == 's' ? to_text(runtime_, value) : repr(runtime_, value)), spec,
                  true);
    }
    return show(value, spec, at + 1 < text.size());
  }

  Text show(const Value& value, const Spec& spec, bool has_spec) {
    if (value.is_number() && (has_spec || !value.is_bool())) {
      constexpr std::string_view kTypes = "dxXobeEfFgG%n";
      if (spec.type && kTypes.find(spec.type) == std::string_view::npos) {
        fail("the format code '", spec.type, "' does not fit a number");
      }
      if (value.is_float() &&
          std::string_view("dxXob").find(spec.type ? spec.type : '.') != std::string_view::npos) {
        fail("the format code '", spec.type, "' does not fit a float");
      }
      return format_number(runtime_, value, spec);
    }
    if (spec.type && spec.type != 's') fail("the format code '", spec.type, "' does not fit a string");
    if (value.is_text() && (spec.sign != '-' || spec.grouping || spec.alternate || spec.align == '=')) {
      fail("a sign, grouping or '=' does not fit a string");
    }
    if (has_spec && !value.is_text()) {
      fail("'", value.type_name(), "' takes no format");
    }
    return aligned(runtime_, "", clipped(runtime_, to_text(runtime_, value), spec.precision), spec, '<');
  }

  // "name", "0", "" (the next one), each with .attribute and [item] behind.
  Value lookup(std::string_view path) {
    size_t at = std::min(path.find_first_of(".["), path.size());
    Value value = first(path.substr(0, at));
    while (at < path.size()) {
      const bool attribute = path[at] == '.';
      const size_t end =
          attribute ? std::min(path.find_first_of(".[", at + 1), path.size()) : path.find(']', at);
      if (end == std::string_view::npos) fail("a '[' in a format is never closed");
      const auto name = path.substr(at + 1, end - at - 1);
      if (name.empty()) fail("an attribute in a format has no name");
      if (attribute) {
        value = get_attribute(runtime_, value, name);
      } else {
        size_t digits = 0;
        const bool number = digit_at(name, 0);
        const int64_t index = number ? read_number(name, digits) : 0;
        value = get_item(runtime_, value, digits == name.size() ? Value::integer(index) : Value::text(name));
      }
      at = attribute ? end : end + 1;
    }
    return value;
  }

  Value first(std::string_view name) {
    size_t index = next_;
    if (name.empty()) {
      ++next_;
    } else if (digit_at(name, 0)) {
      size_t at = 0;
      index = static_cast<size_t>(read_number(name, at));
      if (at != name.size()) fail("a format's field name is a number or a name");
    } else {
      for (const auto& [key, value] : args_.keyword) {
        if (key == name) return value;
      }
      fail("the format's argument '", name, "' is missing");
    }
    if (index >= args_.positional.size()) fail("the format's argument ", index, " is missing");
    return args_.positional[index];
  }

  Spec parse_spec(std::string_view text) {
    Spec spec;
    constexpr std::string_view kAligns = "<>=^";
    size_t at = 0;
    if (!text.empty()) {
      const size_t size = unicode::decode(text, 0).length;
      if (size < text.size() && kAligns.find(text[size]) != std::string_view::npos) {
        spec.fill = std::string(text.substr(0, size));
        spec.align = text[size];
        at = size + 1;
      } else if (kAligns.find(text[0]) != std::string_view::npos) {
        spec.align = text[0];
        at = 1;
      }
    }
    const auto take = [&](std::string_view set) {
      return at < text.size() && set.find(text[at]) != std::string_view::npos ? text[at++] : '\0';
    };
    if (const char sign = take("+- ")) spec.sign = sign;
    spec.alternate = take("#") != '\0';
    if (take("0") && !spec.align) {
      spec.fill = "0";
      spec.align = '=';
    }
    if (digit_at(text, at)) spec.width = read_number(text, at);
    spec.grouping = take(",_");
    if (take(".")) {
      if (!digit_at(text, at)) fail("a format's precision is missing");
      spec.precision = read_number(text, at);
    }
    if (at < text.size()) spec.type = text[at++];
    if (at < text.size()) fail("the format '", text, "' is not understood");
    return spec;
  }

  Runtime& runtime_;
  const Text& format_;
  std::string_view text_;
  const CallArgs& args_;
  size_t next_ = 0;
};

}  // namespace

Text format_percent(Runtime& runtime, const Text& format, const Value& args) {
  return PercentFormatter(runtime, format, args).run();
}

Text format_braces(Runtime& runtime, const Text& format, const CallArgs& args) {
  return BraceFormatter(runtime, format, args).run();
}

}  // namespace llamita::jinja
