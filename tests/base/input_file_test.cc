#include "base/input_file.h"

#include <gtest/gtest.h>

#include <string>

#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace llamita {
namespace {

TEST(InputFile, IsReadAtAnyPlaceAndItsEndIsAnError) {
  const test::TempDir dir;
  const InputFile file(dir.write("file", "0123456789"));
  EXPECT_EQ(file.size(), 10u);
  std::string out(4, '?');
  file.read_at(6, std::as_writable_bytes(std::span(out)));
  EXPECT_EQ(out, "6789");
  file.read_at(10, {});
  EXPECT_ERROR(file.read_at(7, std::as_writable_bytes(std::span(out))),
               "ends at offset 10, 1 bytes too early");
}

TEST(InputFile, WhatIsNoFileSaysSo) {
  const test::TempDir dir;
  EXPECT_ERROR(InputFile(dir.path().string()), "is not a regular file");
  EXPECT_ERROR(InputFile((dir.path() / "none").string()), "cannot open");
}

}  // namespace
}  // namespace llamita
