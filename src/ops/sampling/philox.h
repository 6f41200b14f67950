// Philox-4x32-10: a counter-based random number generator (Salmon et al. 2011, "Parallel Random Numbers: As
// Easy as 1, 2, 3"). A number is a pure function of key and counter, so a token's draw depends on its request
// and position alone and never on what else was drawn before. Integer operations only: every device agrees.
#pragma once

#include <array>
#include <cstdint>

namespace llamita {

constexpr std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t b = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += 0x9E3779B9u;  // the golden ratio and the square root of 3, as Weyl sequences
    key[1] += 0xBB67AE85u;
  }
  return counter;
}

// 64 uniform bits for the token at `position` of a request's reply number `choice`.
constexpr uint64_t random_bits(uint64_t seed, uint32_t choice, uint64_t position) {
  const auto words =
      philox4x32({static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), choice, 0},
                 {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return uint64_t{words[1]} << 32 | words[0];
}

}  // namespace llamita
