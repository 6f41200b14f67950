// Numbers typed by people. Each throws Error naming `what`, the text and the range.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace llamita::cli {

// Decimal; a final k or K multiplies by 1024 ("8k").
int64_t parse_int(std::string_view text, std::string_view what, int64_t low, int64_t high);
uint64_t parse_seed(std::string_view text, std::string_view what);
float parse_float(std::string_view text, std::string_view what, float low, float high);

// "94.2 MB", "1.35 GB": decimal units. "134.5M", "7.62B": parameters.
std::string human_bytes(double bytes);
std::string human_count(double count);
// With this many digits after the point.
std::string fixed(double value, int digits);

}  // namespace llamita::cli
