// Small things that all of the hub's files need.
#pragma once

#include <cstdlib>
#include <string>
#include <string_view>

namespace llamita::hub {

// ASCII letters in lower case, everything else as it is.
inline std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return out;
}

// "" for a variable that is not set.
inline std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

}  // namespace llamita::hub
