// The golden tokenizers of tests/golden/tokenizer and their cases (scripts/make_tokenizer_golden.py).
#pragma once

#include <cstdint>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "support/golden.h"
#include "text/tokenizer.h"

namespace llamita::test {

inline std::string from_hex(std::string_view hex) {
  const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  std::string out;
  for (size_t i = 0; i + 1 < hex.size(); i += 2)
    out.push_back(static_cast<char>(digit(hex[i]) * 16 + digit(hex[i + 1])));
  return out;
}

inline std::vector<int32_t> ids_from(const std::string& text) {
  std::istringstream in(text);
  std::vector<int32_t> out;
  for (int32_t id; in >> id;) out.push_back(id);
  return out;
}

// The tab-separated fields of each line.
inline std::vector<std::vector<std::string>> table(const std::string& name) {
  std::istringstream lines(golden("tokenizer/" + name));
  std::vector<std::vector<std::string>> out;
  for (std::string line; std::getline(lines, line);) {
    auto& fields = out.emplace_back(1);
    for (const char c : line) {
      if (c == '\t') {
        fields.emplace_back();
      } else {
        fields.back().push_back(c);
      }
    }
  }
  return out;
}

inline std::unique_ptr<Tokenizer> golden_tokenizer(const std::string& name) {
  return Tokenizer::from_folder(golden_path("tokenizer/" + name));
}

inline const std::vector<std::string>& golden_names() {
  static const std::vector<std::string> names = {
      "gpt2", "smollm", "llama3", "qwen2", "tekken", "llama2", "metaspace_first", "metaspace_always", "odd"};
  return names;
}

}  // namespace llamita::test
