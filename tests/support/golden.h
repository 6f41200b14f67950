// The content of a file of the source tree: golden("quant/q4_0.bin").
#pragma once

#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>

namespace llamita::test {

inline std::string golden_path(const std::string& name) {
  return std::string(LLAMITA_SOURCE_DIR) + "/tests/golden/" + name;
}

inline std::string golden(const std::string& name) {
  std::ifstream file(golden_path(name), std::ios::binary);
  if (!file) throw std::runtime_error("no golden " + golden_path(name));
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace llamita::test
