// What is found in a cache, without any network.
#include <gtest/gtest.h>

#include <fstream>

#include "hub/hub.h"
#include "support/temp_dir.h"

namespace llamita::hub {
namespace {

const std::string kCommit(40, 'a');

// A cache that other programs, or interrupted runs, have filled.
class CacheTest : public ::testing::Test {
 protected:
  void SetUp() override { config_.cache = dir_.path(); }
  void put(const std::string& repo, const std::string& name, const std::string& content) {
    const auto path = dir_.path() / ("models--o--" + repo) / "snapshots" / kCommit / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << content;
  }
  std::vector<std::string> listed() const {
    std::vector<std::string> out;
    for (const auto& model : list_cached(config_)) {
      out.push_back(model.repo + " " + model.path.filename().string() + " " + std::to_string(model.bytes));
    }
    return out;
  }
  bool finds(const std::string& repo) const {
    return find_cached(Repo::parse("o/" + repo + "@" + kCommit), config_).has_value();
  }
  test::TempDir dir_;
  Config config_;
};

TEST_F(CacheTest, PartsAreOneModelWhenAllAreThere) {
  put("split", "m-00001-of-00003.gguf", "1");
  put("split", "m-00002-of-00003.gguf", "22");
  EXPECT_TRUE(listed().empty());
  EXPECT_FALSE(finds("split"));
  put("split", "m-00003-of-00003.gguf", "333");
  EXPECT_EQ(listed(), std::vector<std::string>{"o/split m-00001-of-00003.gguf 6"});
  EXPECT_TRUE(finds("split"));
}

TEST_F(CacheTest, OnlyTheSuffixOfPartsSplits) {
  put("whole", "best-of-8-q4.gguf", "1234");
  EXPECT_EQ(listed(), std::vector<std::string>{"o/whole best-of-8-q4.gguf 4"});
  EXPECT_TRUE(finds("whole"));
}

TEST_F(CacheTest, ABrokenIndexHidesItsOwnModelOnly) {
  put("broken", "config.json", "{}");
  put("broken", "model.safetensors", "x");
  put("broken", "model.safetensors.index.json", "{\"weight_map\": ");
  put("good", "m.gguf", "12");
  EXPECT_EQ(listed(), std::vector<std::string>{"o/good m.gguf 2"});
  EXPECT_FALSE(finds("broken"));
}

}  // namespace
}  // namespace llamita::hub
