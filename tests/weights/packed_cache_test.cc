// The packed form on disk: a second start has the same bytes and packs nothing; whatever is wrong with the
// file costs the packing and no more.
#include "weights/packed_cache.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>

#include "base/cat.h"
#include "base/checksum.h"
#include "base/log.h"
#include "support/packed_model.h"
#include "support/temp_dir.h"

namespace llamita {
namespace {

namespace fs = std::filesystem;
using test::Bytes;
using test::file_content;
using test::load_packed_model;
using test::only_file;

void overwrite(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
}

ino_t inode(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 ? info.st_ino : 0;
}

// What is said at level info while `body` runs.
std::string said(const std::function<void()>& body) {
  const LogLevel before = log_level();
  set_log_level(LogLevel::info);
  testing::internal::CaptureStderr();
  body();
  set_log_level(before);
  return testing::internal::GetCapturedStderr();
}

void expect_says(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << text;
}

class PackedCacheTest : public testing::Test {
 protected:
  // Six of the model's seven matrices are packed: V of layer 1 is F32 and lies well in the file.
  static constexpr size_t kParts = 6;

  std::vector<Bytes> start() const { return load_packed_model(model, folder); }
  // After this has been done to a good file, a start gives the right bytes, says so, and leaves a good file.
  void expect_recovery(const std::string& good, const std::string& reason, const std::string& what) const {
    std::vector<Bytes> got;
    const std::string log = said([&] { got = start(); });
    EXPECT_EQ(got, expected) << what;
    EXPECT_NE(log.find(reason), std::string::npos) << what << ": " << log;
    ASSERT_EQ(file_content(only_file(folder)), good) << what;
  }

  const test::TempDir dir;
  const std::string model = dir.write("model.gguf", test::packed_model());
  const std::string folder = (dir.path() / "packed" / "deep").string();
  const std::vector<Bytes> expected = load_packed_model(model, "");
};

TEST_F(PackedCacheTest, ASecondStartHasTheSameBytesAndPacksNothing) {
  expect_says(said([&] { EXPECT_EQ(start(), expected); }), "MB written to");
  const std::string file = only_file(folder);
  EXPECT_TRUE(fs::path(file).filename().string().starts_with("model-")) << file;
  const ino_t written = inode(file);
  expect_says(said([&] { EXPECT_EQ(start(), expected); }), "packed weights: 6 matrices from");
  EXPECT_EQ(inode(only_file(folder)), written) << "the file was written again";
}

TEST_F(PackedCacheTest, WhatTheFileHoldsIsWhatIsUsed) {
  // A file with other bytes in a part and checksums to match: they arrive.
  start();
  const std::string file = only_file(folder);
  std::string content = file_content(file);
  const auto bytes = std::as_writable_bytes(std::span(content));
  PackedHeader header = parse_packed_header(bytes, bytes.size(), file);
  ASSERT_EQ(header.parts.size(), kParts);
  PackedEntry& entry = header.parts[0];
  bytes[entry.offset + 5] ^= std::byte{1};
  const uint64_t sum = checksum64(bytes.subspan(entry.offset, static_cast<size_t>(entry.part.bytes())));
  entry.checksum = checksum_of_pieces(std::span(&sum, 1));
  const std::vector<std::byte> head = serialise(header);
  std::copy(head.begin(), head.end(), bytes.begin());
  overwrite(file, content);
  std::vector<Bytes> changed = expected;
  changed[0][5] ^= std::byte{1};
  EXPECT_EQ(start(), changed);
}

TEST_F(PackedCacheTest, EveryCutIsNoticedAndTheFileWrittenAgain) {
  start();
  const std::string file = only_file(folder), good = file_content(file);
  const PackedHeader header = parse_packed_header(std::as_bytes(std::span(good)), good.size(), file);
  std::vector<size_t> cuts = {0,
                              1,
                              8,
                              12,
                              kPackedPrefixBytes - 1,
                              kPackedPrefixBytes,
                              header.header_bytes - 1,
                              header.header_bytes,
                              good.size() - 1};
  for (const PackedEntry& entry : header.parts) {
    cuts.push_back(entry.offset);
    cuts.push_back(entry.offset + static_cast<size_t>(entry.part.bytes()) / 2);
  }
  for (const size_t cut : cuts) {
    fs::resize_file(file, cut);
    expect_recovery(good, "they are packed again", cat("cut to ", cut));
  }
  overwrite(file, good + "x");
  expect_recovery(good, "they are packed again", "one byte more");
}

TEST_F(PackedCacheTest, ADamagedHeaderIsNoticedAndTheFileWrittenAgain) {
  start();
  const std::string file = only_file(folder), good = file_content(file);
  const uint64_t header = parse_packed_header(std::as_bytes(std::span(good)), good.size(), file).header_bytes;
  // packed_header_test.cc flips every byte; here what a start makes of it.
  for (size_t at = 0; at < header; at += at < kPackedPrefixBytes ? 1 : 97) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x10);
    overwrite(file, bad);
    expect_recovery(good, "they are packed again", cat("byte ", at));
  }
}

TEST_F(PackedCacheTest, ADamagedMatrixIsPackedAgainAndTheOthersAreNot) {
  start();
  const std::string file = only_file(folder), good = file_content(file);
  const PackedHeader header = parse_packed_header(std::as_bytes(std::span(good)), good.size(), file);
  for (const PackedEntry& entry : header.parts) {
    for (const uint64_t at : {entry.offset, entry.offset + static_cast<uint64_t>(entry.part.bytes()) - 1}) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ 0x01);
      overwrite(file, bad);
      expect_recovery(good, cat("lacks '", entry.part.name, "' or has it damaged"), entry.part.name);
    }
  }
}

TEST_F(PackedCacheTest, AnotherVersionOrLayoutIsWrittenAgain) {
  start();
  const std::string file = only_file(folder), good = file_content(file);
  std::string other = good;
  ++other[8];
  overwrite(file, other);
  expect_recovery(good, "has version 2, expected 1", "version");

  const std::vector<Bytes> rows = load_packed_model(model, "", quant::Layout::rows);
  EXPECT_NE(rows, expected);
  EXPECT_EQ(load_packed_model(model, folder, quant::Layout::rows), rows);
  EXPECT_NE(file_content(only_file(folder)), good) << "one file a model";
  expect_recovery(good, "has the layout 'rows', wanted is 'groups of 8 rows", "layout");
}

// As after an update that reads another configuration out of the same files.
TEST_F(PackedCacheTest, AMatrixThatIsWantedDifferentlyIsPackedAgain) {
  start();
  constexpr auto kLayout = quant::Layout::interleaved;
  const std::vector<Bytes> other = load_packed_model(model, "", kLayout, 16);
  EXPECT_NE(other, expected);
  EXPECT_EQ(load_packed_model(model, folder, kLayout, 16), other);
  expect_says(said([&] { EXPECT_EQ(load_packed_model(model, folder, kLayout, 16), other); }), "6 matrices");
}

TEST_F(PackedCacheTest, AModelThatChangedIsPackedAgain) {
  start();
  const auto time = fs::last_write_time(model);
  fs::last_write_time(model, time + std::chrono::seconds(1));
  expect_says(said([&] { EXPECT_EQ(start(), expected); }), "was made from other files");
  only_file(folder);

  // Other weights of the same size, names, shapes and time, as two fine-tunes of one model may have.
  overwrite(model, test::packed_model(2));
  fs::last_write_time(model, time + std::chrono::seconds(1));
  const std::vector<Bytes> others = load_packed_model(model, "");
  EXPECT_NE(others, expected);
  EXPECT_EQ(start(), others);
}

TEST_F(PackedCacheTest, AModelThatMovedIsFound) {
  start();
  const fs::path moved = dir.path() / "elsewhere";
  fs::create_directory(moved);
  fs::rename(model, moved / "model.gguf");
  expect_says(said([&] { EXPECT_EQ(load_packed_model(moved / "model.gguf", folder), expected); }),
              "6 matrices from");
}

TEST_F(PackedCacheTest, AFolderThatCannotBeWrittenIsAWarning) {
  const std::string in_the_way = dir.write("file", "");
  testing::internal::CaptureStderr();
  EXPECT_EQ(load_packed_model(model, in_the_way + "/below"), expected);
  expect_says(testing::internal::GetCapturedStderr(), "warning: packed weights are not kept");

  start();  // a folder where the file should be
  const std::string file = only_file(folder);
  fs::remove(file);
  fs::create_directory(file);
  testing::internal::CaptureStderr();
  EXPECT_EQ(start(), expected);
  expect_says(testing::internal::GetCapturedStderr(), "warning: packed weights are not kept");
  only_file(folder);  // nothing half-written is left beside it
}

TEST_F(PackedCacheTest, NoRoomForTheFileIsAWarning) {
  struct rlimit before {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  const struct rlimit little { 1000, before.rlim_max };
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &little), 0);
  testing::internal::CaptureStderr();
  const std::vector<Bytes> got = start();
  const std::string log = testing::internal::GetCapturedStderr();
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  ::signal(SIGXFSZ, handler);
  EXPECT_EQ(got, expected);
  expect_says(log, "warning: packed weights are not kept");
  EXPECT_EQ(only_file(folder), "");
}

TEST_F(PackedCacheTest, StartsAtTheSameTimeAllHaveTheirWeightsAndLeaveOneFile) {
  for (int round = 0; round < 10; ++round) {
    std::vector<std::vector<Bytes>> got(6);
    std::vector<std::thread> starts;
    for (auto& one : got) starts.emplace_back([&] { one = start(); });
    for (auto& thread : starts) thread.join();
    for (const auto& one : got) EXPECT_EQ(one, expected);
    const std::string file = only_file(folder);
    EXPECT_TRUE(file.ends_with(".packed")) << file;
    if (round % 2 == 1) fs::remove(file);
  }
}

TEST_F(PackedCacheTest, TensorsThatLieInNoFileAreNotKept) {
  const std::string bytes = file_content(model);
  const TensorFiles files = TensorFiles::of(gguf::File::parse(std::as_bytes(std::span(bytes)), "memory"));
  EXPECT_EQ(PackedCache(folder, files, quant::Layout::interleaved).path(), "");
}

int64_t status_bytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(key)) return std::stoll(line.substr(key.size() + 1)) * 1024;
  }
  return -1;
}

TEST_F(PackedCacheTest, ASecondStartTakesTheMemoryOfTheWeightsOnce) {
#ifdef LLAMITA_SANITIZED
  GTEST_SKIP() << "a sanitizer's own memory is measured with it";
#endif
  constexpr int64_t kRows = 4096, kCols = 4096, kMatrices = 6;
  const int64_t bytes = kMatrices * kRows * row_bytes(DType::q8_0, kCols);  // 107 MB
  {
    test::GgufBuilder file;
    file.kv("general.architecture", "llama");
    for (int i = 0; i < kMatrices; ++i)
      file.tensor(cat("blk.", i, ".ffn_up.weight"), DType::q8_0, {kRows, kCols});
    dir.write("large.gguf", file.build());
  }
  for (const char* which : {"first", "second"}) {
    std::ofstream("/proc/self/clear_refs") << "5";  // the peak counts from here
    const int64_t before = status_bytes("VmRSS:");
    if (status_bytes("VmHWM:") > before + (4 << 20)) GTEST_SKIP() << "the peak cannot be reset here";
    const TensorFiles files = TensorFiles::open(dir.path() / "large.gguf");
    PackedCache cache(folder, files, quant::Layout::interleaved);
    WeightLoader loader(files, {}, {.layout = quant::Layout::interleaved}, &cache);
    std::vector<quant::Weight> weights;
    for (int i = 0; i < kMatrices; ++i)
      weights.push_back(loader.linear({"up", cat("model.layers.", i, ".mlp.up_proj.weight"), kRows}, kCols));
    cache.save();
    // Huge pages at the end of six matrices, one panel, the threads.
    EXPECT_LT(status_bytes("VmHWM:") - before, bytes + (24 << 20)) << which;
    EXPECT_GT(status_bytes("VmRSS:") - before, bytes / 2) << which << ": nothing was loaded";
  }
}

}  // namespace
}  // namespace llamita
