// Code points as Python's str sees them: decoding, character classes, case. Strings inside the interpreter
// are always valid UTF-8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace llamita::jinja::unicode {

struct Decoded {
  uint32_t code;
  size_t length;  // bytes, 1..4
};

// The code point that begins at byte `at` (< text.size()) of valid UTF-8.
Decoded decode(std::string_view text, size_t at);
void encode(uint32_t code, std::string& out);
bool is_valid(std::string_view text);

size_t length(std::string_view text);
// Byte offset of every code point, and text.size() at the end.
std::vector<size_t> offsets(std::string_view text);

bool is_space(uint32_t code);       // what str.strip() strips
bool is_line_break(uint32_t code);  // what str.splitlines() splits at
bool is_alpha(uint32_t code);
bool is_decimal(uint32_t code);
bool is_digit(uint32_t code);
bool is_numeric(uint32_t code);
bool is_upper(uint32_t code);
bool is_lower(uint32_t code);
bool is_title(uint32_t code);
bool is_printable(uint32_t code);  // shown as it is by repr()
bool is_name_start(uint32_t code);
bool is_name_part(uint32_t code);

// Full case mapping: one code point may become several ("ß" to "SS").
void append_upper(uint32_t code, std::string& out);
void append_title(uint32_t code, std::string& out);
// `final_sigma`: this is a Greek sigma at the end of a word.
void append_lower(uint32_t code, bool final_sigma, std::string& out);

}  // namespace llamita::jinja::unicode
