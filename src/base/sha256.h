// SHA-256 (FIPS 180-4), for checking downloads. Plain scalar code: the network is slower.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace llamita {

class Sha256 {
 public:
  void update(std::span<const std::byte> bytes);
  // The digest of everything so far as 64 lower-case hex digits; the object is spent.
  std::string hex_digest();

 private:
  void block(const std::byte* bytes);

  std::array<uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::byte, 64> buffer_{};
  size_t buffered_ = 0;
  uint64_t total_ = 0;
};

// Of a whole file; throws Error when it cannot be read.
std::string sha256_of_file(const std::string& path);

}  // namespace llamita
