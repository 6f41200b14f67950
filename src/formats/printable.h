// Names out of untrusted files, made fit for an error message: nobody's terminal is steered by a tensor's
// name, and a key of 60 KB does not bury the sentence it stands in.
#pragma once

#include <string>
#include <string_view>

namespace llamita {

// 'text' in single quotes: control and non-ASCII bytes as \xNN, cut after 120 bytes with "...".
inline std::string printable(std::string_view text) {
  constexpr size_t kMost = 120;
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string out = "'";
  for (const char c : text.substr(0, kMost)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f) {
      out.push_back(c);
    } else {
      out.append({'\\', 'x', kHex[byte >> 4], kHex[byte & 15]});
    }
  }
  out.append(text.size() > kMost ? "...'" : "'");
  return out;
}

}  // namespace llamita
