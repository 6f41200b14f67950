#include "cli/conversation_file.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace llamita::cli {
namespace {

TEST(ConversationFile, ComesBackAsItWas) {
  const test::TempDir dir;
  const std::string path = (dir.path() / "talk.json").string();
  const Conversation saved = {
      {"system", "Be \"brief\"."}, {"user", "a\nb\t\\ \xF0\x9F\xA6\x99"}, {"assistant", ""}};
  save_conversation(path, "model", saved);
  save_conversation(path, "model", saved);  // over the first one
  const Conversation loaded = load_conversation(path);
  ASSERT_EQ(loaded.size(), saved.size());
  for (size_t i = 0; i < saved.size(); ++i) {
    EXPECT_EQ(loaded[i].role, saved[i].role);
    EXPECT_EQ(loaded[i].content, saved[i].content);
  }
  // Nothing but the file is left in the folder.
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir.path()), {}), 1);
}

TEST(ConversationFile, PicturesComeBackAtTheirPlaces) {
  const test::TempDir dir;
  const std::string path = (dir.path() / "talk.json").string();
  Message question{"user", "before and behind"};
  const auto file = std::make_shared<const std::string>(std::string("\0\xff bytes", 8));
  question.pictures = {{file, 0}, {file, 6}};
  save_conversation(path, "model", {question});
  const Conversation loaded = load_conversation(path);
  ASSERT_EQ(loaded.size(), 1u);
  EXPECT_EQ(loaded[0].content, question.content);
  ASSERT_EQ(loaded[0].pictures.size(), 2u);
  EXPECT_EQ(*loaded[0].pictures[0].file, *file);
  EXPECT_EQ(loaded[0].pictures[0].at, 0u);
  EXPECT_EQ(loaded[0].pictures[1].at, 6u);
}

TEST(ConversationFile, AFailedSaveLeavesTheOldFile) {
  const test::TempDir dir;
  EXPECT_ERROR(save_conversation((dir.path() / "no/such/folder.json").string(), "m", {}), "cannot save to");
  // A folder cannot be replaced by a file.
  std::filesystem::create_directory(dir.path() / "taken");
  dir.write("taken/inside", "x");
  EXPECT_ERROR(save_conversation((dir.path() / "taken").string(), "m", {}), "cannot save to");
  EXPECT_TRUE(std::filesystem::exists(dir.path() / "taken/inside"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir.path()), {}), 1);
}

TEST(ConversationFile, SaysWhatIsWrongWithAFile) {
  const test::TempDir dir;
  EXPECT_ERROR(load_conversation((dir.path() / "absent.json").string()), "absent.json");
  EXPECT_ERROR(load_conversation(dir.write("a", "{\"messages\":")), "offset");
  EXPECT_ERROR(load_conversation(dir.write("b", "[]")), "'messages'");
  EXPECT_ERROR(load_conversation(dir.write("c", "{\"messages\":7}")), "messages");
  EXPECT_ERROR(load_conversation(dir.write("d", "{\"messages\":[{\"role\":\"user\"}]}")),
               "'content' is missing");
  EXPECT_ERROR(load_conversation(dir.write("e", "{\"messages\":[{\"role\":\"cook\",\"content\":\"\"}]}")),
               "message 1: expected the role system, user or assistant, got 'cook'");
  EXPECT_ERROR(load_conversation(dir.write("f", "{\"messages\":[{\"role\":\"user\",\"content\":3}]}")),
               "content");
}

}  // namespace
}  // namespace llamita::cli
