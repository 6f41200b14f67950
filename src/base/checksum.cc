// Four chains, each a word at a time: chain = rotate(chain ^ word) * odd. A step is one-to-one in the word
// and in the chain, so that a difference cannot get lost behind the place where it was. A chain alone would
// wait five cycles for each word; four of them take 32 bytes in that time.
#include "base/checksum.h"

#include <bit>
#include <cstring>

namespace llamita {

namespace {

constexpr uint64_t kOdd = 0x9e3779b97f4a7c15u;  // 2^64 over the golden ratio

uint64_t step(uint64_t chain, uint64_t word) { return std::rotl(chain ^ word, 29) * kOdd; }

uint64_t word_at(const std::byte* bytes) {
  uint64_t word;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}

}  // namespace

uint64_t checksum64(std::span<const std::byte> bytes) {
  uint64_t a = 1, b = 2, c = 3, d = 4;
  const std::byte* at = bytes.data();
  size_t left = bytes.size();
  for (; left >= 32; at += 32, left -= 32) {
    a = step(a, word_at(at));
    b = step(b, word_at(at + 8));
    c = step(c, word_at(at + 16));
    d = step(d, word_at(at + 24));
  }
  uint64_t all = step(step(step(step(bytes.size(), a), b), c), d);
  for (; left >= 8; at += 8, left -= 8) all = step(all, word_at(at));
  uint64_t last = 0;
  if (left > 0) std::memcpy(&last, at, left);
  all = step(all, last);
  return all ^ all >> 32;
}

}  // namespace llamita
