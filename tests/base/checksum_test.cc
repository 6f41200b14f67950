#include "base/checksum.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <vector>

namespace llamita {
namespace {

std::vector<std::byte> random_bytes(size_t n) {
  std::mt19937 random(3);
  std::vector<std::byte> bytes(n);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

TEST(Checksum, EveryFlippedBitChangesIt) {
  for (const size_t n : {1, 7, 8, 9, 31, 32, 33, 64, 71, 200}) {
    std::vector<std::byte> bytes = random_bytes(n);
    const uint64_t sum = checksum64(bytes);
    EXPECT_EQ(checksum64(bytes), sum);
    for (size_t bit = 0; bit < 8 * n; ++bit) {
      bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
      EXPECT_NE(checksum64(bytes), sum) << n << " bytes, bit " << bit;
      bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    }
  }
}

TEST(Checksum, LengthsAndPlacesOfTheSameBytesDiffer) {
  const std::vector<std::byte> zeros(300);
  std::set<uint64_t> sums;
  for (size_t n = 0; n <= zeros.size(); ++n) sums.insert(checksum64(std::span(zeros).first(n)));
  EXPECT_EQ(sums.size(), 301u) << "zeros are not nothing";
  std::set<uint64_t> moved;
  for (size_t at = 0; at < zeros.size(); ++at) {
    std::vector<std::byte> one = zeros;
    one[at] = std::byte{1};
    moved.insert(checksum64(one));
  }
  EXPECT_EQ(moved.size(), 300u);
}

TEST(Checksum, PiecesThatChangePlacesChangeIt) {
  std::vector<std::byte> bytes = random_bytes(4096);
  const uint64_t sum = checksum64(bytes);
  for (const size_t piece : {8u, 16u, 32u, 64u, 1024u, 2048u}) {
    std::vector<std::byte> turned = bytes;
    std::rotate(turned.begin(), turned.begin() + static_cast<std::ptrdiff_t>(piece), turned.end());
    EXPECT_NE(checksum64(turned), sum) << piece;
  }
}

TEST(Checksum, AnAddressDoesNotMatter) {
  const std::vector<std::byte> bytes = random_bytes(100);
  for (size_t shift = 1; shift < 8; ++shift) {
    std::vector<std::byte> room(108, std::byte{0xff});
    std::copy(bytes.begin(), bytes.end(), room.begin() + static_cast<std::ptrdiff_t>(shift));
    EXPECT_EQ(checksum64(std::span(room).subspan(shift, 100)), checksum64(bytes)) << shift;
  }
}

// By Python's integers. Files that were written keep their checksums: another value means another version of
// every file that has one.
TEST(Checksum, TheValueIsTheSameForEver) {
  std::vector<std::byte> bytes(77);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i);
  EXPECT_EQ(checksum64({}), 15288200647700653849u);
  EXPECT_EQ(checksum64(bytes), 12091210478146412670u);
}

}  // namespace
}  // namespace llamita
