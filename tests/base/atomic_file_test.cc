// A file appears complete or not at all, and one writer at a time makes it.
#include "base/atomic_file.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace llamita {
namespace {

namespace fs = std::filesystem;

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

std::string content(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

class AtomicFileTest : public testing::Test {
 protected:
  const test::TempDir dir;
  const std::string path = (dir.path() / "file").string();
};

TEST_F(AtomicFileTest, TheFileAppearsWithCommitAndTheOldOneIsThereUntilThen) {
  dir.write("file", "old");
  {
    AtomicFile file(path, 7);
    ASSERT_TRUE(file.is_ours());
    file.write(bytes_of("new "));
    file.write(bytes_of("one"));
    EXPECT_EQ(content(path), "old");
    file.commit();
    EXPECT_EQ(content(path), "new one");
  }
  EXPECT_EQ(content(path), "new one");
  EXPECT_FALSE(fs::exists(path + ".tmp"));
}

TEST_F(AtomicFileTest, WhatWasNotCommittedIsGone) {
  dir.write("file", "old");
  {
    AtomicFile file(path, 3);
    file.write(bytes_of("new"));
  }
  EXPECT_EQ(content(path), "old");
  EXPECT_FALSE(fs::exists(path + ".tmp"));
}

TEST_F(AtomicFileTest, ASecondWriterStandsBackAndHarmsNothing) {
  AtomicFile first(path, 5);
  first.write(bytes_of("fi"));
  {
    const AtomicFile second(path, 100);
    EXPECT_FALSE(second.is_ours());
  }
  first.write(bytes_of("rst"));
  first.commit();
  EXPECT_EQ(content(path), "first");
}

TEST_F(AtomicFileTest, WhatAKilledWriterLeftIsOverwritten) {
  const pid_t child = ::fork();
  if (child == 0) {
    AtomicFile file(path, 1000);
    file.write(bytes_of("a long text that nobody finished"));
    ::_exit(0);  // as a kill: no destructor runs
  }
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  ASSERT_TRUE(fs::exists(path + ".tmp"));
  AtomicFile file(path, 5);
  ASSERT_TRUE(file.is_ours());
  file.write(bytes_of("short"));
  file.commit();
  EXPECT_EQ(content(path), "short");
}

TEST_F(AtomicFileTest, ALinkInTheWayIsNotFollowed) {
  const std::string other = dir.write("other", "precious");
  fs::create_symlink(other, path + ".tmp");
  EXPECT_ERROR(AtomicFile(path, 1), "cannot be opened for writing");
  EXPECT_EQ(content(other), "precious");
}

TEST_F(AtomicFileTest, AFolderThatIsNotThereIsAnErrorThatNamesIt) {
  EXPECT_ERROR(AtomicFile((dir.path() / "none" / "file").string(), 1), "none/file.tmp: cannot be opened");
}

TEST_F(AtomicFileTest, MoreRoomThanADiskHasIsAnError) {
  std::optional<AtomicFile> file;
  EXPECT_ERROR(file.emplace(path, uint64_t{1} << 50), "has no room for 1125899906842624 bytes");
  EXPECT_FALSE(fs::exists(path + ".tmp"));
}

}  // namespace
}  // namespace llamita
