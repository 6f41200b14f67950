// Names of the parts of a split GGUF model: "llama-00002-of-00003.gguf" is part 2 of 3.
#pragma once

#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>

namespace llamita {

struct SplitName {
  std::string stem;  // "llama", with the folders before it
  int64_t part = 1;  // from 1
  int64_t count = 1;
};

// "-00002-of-00003.gguf"
inline std::string split_suffix(int64_t part, int64_t count) {
  char text[64];
  std::snprintf(text, sizeof text, "-%05lld-of-%05lld.gguf", static_cast<long long>(part),
                static_cast<long long>(count));
  return text;
}

// Nothing for the name of a file that is whole by itself.
inline std::optional<SplitName> parse_split_name(std::string_view name) {
  constexpr size_t kDigits = 5, kSuffix = 20;
  if (name.size() <= kSuffix) return std::nullopt;
  const std::string_view suffix = name.substr(name.size() - kSuffix);
  const auto number = [&](size_t at) {
    int64_t out = 0;
    for (const char c : suffix.substr(at, kDigits)) out = out * 10 + (c - '0');
    return out;
  };
  const SplitName out{std::string(name.substr(0, name.size() - kSuffix)), number(1), number(10)};
  // Anything but digits in their places spells another suffix than the numbers do.
  if (out.part < 1 || out.part > out.count || suffix != split_suffix(out.part, out.count))
    return std::nullopt;
  return out;
}

}  // namespace llamita
