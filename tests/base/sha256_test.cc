#include "base/sha256.h"

#include <gtest/gtest.h>

namespace llamita {
namespace {

std::string hash_of(std::string_view text, size_t step) {
  Sha256 hash;
  for (size_t at = 0; at < text.size(); at += step) {
    hash.update(std::as_bytes(std::span(text.substr(at, step))));
  }
  return hash.hex_digest();
}

// Vectors of FIPS 180-4's examples.
TEST(Sha256, KnownDigests) {
  EXPECT_EQ(hash_of("", 1), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(hash_of("abc", 3), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hash_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 7),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(hash_of(std::string(1000000, 'a'), 4097),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, DoesNotDependOnHowTheBytesCome) {
  const std::string text(300, 'x');
  const std::string whole = hash_of(text, text.size());
  for (const size_t step : {1, 55, 56, 63, 64, 65, 128}) EXPECT_EQ(hash_of(text, step), whole) << step;
}

}  // namespace
}  // namespace llamita
