#include "text/jinja/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <utility>

namespace llamita::jinja::unicode {

namespace {

utf8proc_category_t category(uint32_t code) { return utf8proc_category(static_cast<utf8proc_int32_t>(code)); }

bool is_letter_category(utf8proc_category_t c) {
  return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

// Code points whose upper case is more than one code point, the ones that occur in running text.
struct Expansion {
  uint32_t code;
  const char* upper;
  const char* title;
};
constexpr std::array kExpansions{
    Expansion{0x00DF, "SS", "Ss"},           Expansion{0x0149, "\u02BCN", "\u02BCN"},
    Expansion{0x01F0, "J\u030C", "J\u030C"}, Expansion{0x0587, "\u0535\u0552", "\u0535\u0582"},
    Expansion{0xFB00, "FF", "Ff"},           Expansion{0xFB01, "FI", "Fi"},
    Expansion{0xFB02, "FL", "Fl"},           Expansion{0xFB03, "FFI", "Ffi"},
    Expansion{0xFB04, "FFL", "Ffl"},         Expansion{0xFB05, "ST", "St"},
    Expansion{0xFB06, "ST", "St"},
};

const Expansion* expansion(uint32_t code) {
  const auto found = std::find_if(kExpansions.begin(), kExpansions.end(),
                                  [&](const Expansion& entry) { return entry.code == code; });
  return found == kExpansions.end() ? nullptr : &*found;
}

}  // namespace

Decoded decode(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<unsigned char>(text[at + i])); };
  const uint32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xE0) return {(lead & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (lead < 0xF0) return {(lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  return {(lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F), 4};
}

void encode(uint32_t code, std::string& out) {
  utf8proc_uint8_t buffer[4];
  const auto n = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code), buffer);
  out.append(reinterpret_cast<const char*>(buffer), static_cast<size_t>(n));
}

bool is_valid(std::string_view text) {
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  for (size_t at = 0; at < text.size();) {
    if (static_cast<unsigned char>(text[at]) < 0x80) {
      ++at;
      continue;
    }
    utf8proc_int32_t code;
    const auto n = utf8proc_iterate(bytes + at, static_cast<utf8proc_ssize_t>(text.size() - at), &code);
    if (n <= 0) return false;
    at += static_cast<size_t>(n);
  }
  return true;
}

size_t length(std::string_view text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::vector<size_t> offsets(std::string_view text) {
  std::vector<size_t> out;
  out.reserve(text.size() + 1);
  for (size_t at = 0; at < text.size(); at += decode(text, at).length) out.push_back(at);
  out.push_back(text.size());
  return out;
}

bool is_space(uint32_t code) {
  if (code < 0x80) return (code >= 9 && code <= 13) || (code >= 0x1C && code <= 0x20);
  return code == 0x85 || code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) ||
         code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

bool is_line_break(uint32_t code) {
  return (code >= 10 && code <= 13) || (code >= 0x1C && code <= 0x1E) || code == 0x85 || code == 0x2028 ||
         code == 0x2029;
}

bool is_alpha(uint32_t code) { return is_letter_category(category(code)); }
bool is_decimal(uint32_t code) { return category(code) == UTF8PROC_CATEGORY_ND; }

bool is_digit(uint32_t code) {
  // Digits that are no decimals: superscripts, subscripts and circled ones.
  return is_decimal(code) || code == 0xB2 || code == 0xB3 || code == 0xB9 || code == 0x2070 ||
         (code >= 0x2074 && code <= 0x2079) || (code >= 0x2080 && code <= 0x2089) ||
         (code >= 0x2460 && code <= 0x2468);
}

bool is_numeric(uint32_t code) {
  const auto c = category(code);
  return c == UTF8PROC_CATEGORY_ND || c == UTF8PROC_CATEGORY_NL || c == UTF8PROC_CATEGORY_NO;
}

bool is_upper(uint32_t code) { return category(code) == UTF8PROC_CATEGORY_LU; }
bool is_lower(uint32_t code) {
  return category(code) == UTF8PROC_CATEGORY_LL || code == 0xAA || code == 0xBA;
}
bool is_title(uint32_t code) { return category(code) == UTF8PROC_CATEGORY_LT; }

bool is_printable(uint32_t code) {
  if (code < 0x80) return code >= 0x20 && code < 0x7F;
  switch (category(code)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS: return false;
    default: return true;
  }
}

bool is_name_start(uint32_t code) {
  return code == '_' || is_alpha(code) || category(code) == UTF8PROC_CATEGORY_NL;
}

bool is_name_part(uint32_t code) {
  const auto c = category(code);
  return is_name_start(code) || c == UTF8PROC_CATEGORY_ND || c == UTF8PROC_CATEGORY_MN ||
         c == UTF8PROC_CATEGORY_MC || c == UTF8PROC_CATEGORY_PC;
}

void append_upper(uint32_t code, std::string& out) {
  if (const Expansion* entry = expansion(code)) {
    out += entry->upper;
  } else {
    encode(static_cast<uint32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(code))), out);
  }
}

void append_title(uint32_t code, std::string& out) {
  if (const Expansion* entry = expansion(code)) {
    out += entry->title;
  } else {
    encode(static_cast<uint32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(code))), out);
  }
}

void append_lower(uint32_t code, bool final_sigma, std::string& out) {
  if (code == 0x0130) {  // the dotted capital I keeps its dot as a combining mark
    out += "i\u0307";
  } else if (code == 0x03A3 && final_sigma) {
    out += "\u03C2";
  } else {
    encode(static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code))), out);
  }
}

}  // namespace llamita::jinja::unicode
