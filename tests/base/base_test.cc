#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <limits>
#include <string>

#include "base/cat.h"
#include "base/checked.h"
#include "base/mapped_file.h"
#include "base/reader.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace llamita {
namespace {

TEST(Cat, JoinsTextAndNumbersAsTheyAreWritten) {
  EXPECT_EQ(cat("rows ", 3, " of ", std::string("x"), ' ', true, ' ', -1.5, ' ', uint8_t{7}),
            "rows 3 of x true -1.5 7");
}

TEST(Checked, SizesThatWrapAreErrors) {
  constexpr auto kMax = std::numeric_limits<uint64_t>::max();
  EXPECT_EQ(checked_mul<uint64_t>(kMax / 2, 2, "n"), kMax - 1);
  EXPECT_ERROR(checked_mul<uint64_t>(kMax, 2, "tensor bytes"), "tensor bytes");
  EXPECT_ERROR(checked_add<uint64_t>(kMax, 1, "end"), "overflows");
  EXPECT_EQ(checked_align_up<uint64_t>(33, 32, "n"), 64u);
  EXPECT_ERROR(checked_align_up<uint64_t>(kMax - 1, 32, "offset"), "offset");
  EXPECT_EQ(checked_cast<int32_t>(uint64_t{5}, "id"), 5);
  EXPECT_ERROR(checked_cast<int32_t>(uint64_t{1} << 31, "id"), "id");
}

TEST(Reader, ReadsLittleEndianAndStopsAtTheEnd) {
  const std::array<std::byte, 6> bytes{std::byte{1}, std::byte{2},   std::byte{0},
                                       std::byte{0}, std::byte{'h'}, std::byte{'i'}};
  Reader reader(bytes, "some.bin");
  EXPECT_EQ(reader.read<uint32_t>("count"), 513u);
  EXPECT_EQ(reader.take_text(2, "name"), "hi");
  EXPECT_EQ(reader.left(), 0u);
  EXPECT_ERROR(reader.read<uint8_t>("flag"), "some.bin, offset 6: flag needs 1 bytes");
}

TEST(Reader, AHugeLengthIsAnErrorAndNotAnAllocation) {
  const std::array<std::byte, 1> bytes{};
  Reader reader(bytes, "some.bin");
  EXPECT_ERROR(reader.take(std::numeric_limits<uint64_t>::max(), "string"),
               "string needs 18446744073709551615");
}

TEST(MappedFile, ShowsTheBytesAndRefusesWhatIsNoFile) {
  const test::TempDir dir;
  const MappedFile file(dir.write("a", "abc"));
  ASSERT_EQ(file.size(), 3u);
  EXPECT_EQ(file.bytes()[2], std::byte{'c'});
  EXPECT_EQ(MappedFile(dir.write("empty", "")).size(), 0u);
  EXPECT_ERROR(MappedFile(dir.path().string()), "not a regular file");
  EXPECT_ERROR(MappedFile((dir.path() / "none").string()), "No such file");
}

}  // namespace
}  // namespace llamita
