// A megabyte of anything takes a moment, on a small stack.
#include <gtest/gtest.h>
#include <pthread.h>

#include <ctime>
#include <functional>

#include "text/tokenizer_golden.h"

namespace llamita {
namespace {

// Of processor time, which neighbours do not add to: far above what a linear run takes under the sanitizers,
// far below a quadratic one's hours.
constexpr double kSeconds = 40;
constexpr size_t kBytes = 1 << 20;

std::string repeated(std::string_view unit) {
  std::string out;
  while (out.size() < kBytes) out += unit;
  return out;
}

// Runs `work` on a thread with a stack of 256 KiB (more under the sanitizers, whose frames are larger).
void on_small_stack(const std::function<void()>& work) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
#if defined(LLAMITA_SANITIZED)
  pthread_attr_setstacksize(&attributes, 1 << 20);
#else
  pthread_attr_setstacksize(&attributes, 256 << 10);
#endif
  const auto run = [](void* argument) -> void* {
    (*static_cast<const std::function<void()>*>(argument))();
    return nullptr;
  };
  pthread_t thread;
  ASSERT_EQ(pthread_create(&thread, &attributes, run, const_cast<std::function<void()>*>(&work)), 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
}

class TokenizerTime : public testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Tokenizer> tokenizer_ = test::golden_tokenizer(GetParam());

  void expect_linear(std::string_view unit) {
    const std::string text = repeated(unit);
    std::vector<int32_t> ids;
    const std::clock_t start = std::clock();
    on_small_stack([&] { ids = tokenizer_->encode(text, false, false); });
    const double took = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    EXPECT_FALSE(ids.empty());
    EXPECT_LT(took, kSeconds) << "a megabyte of '" << unit << "'";
  }
};

TEST_P(TokenizerTime, OneLetter) { expect_linear("a"); }
TEST_P(TokenizerTime, OneSpaceAndNoEnd) {
  // `odd` trims white space at the end of a text.
  expect_linear(GetParam() == "odd" ? "a " : " ");
}
TEST_P(TokenizerTime, NewlinesAndSpaces) { expect_linear(GetParam() == "odd" ? "b\n" : "\n \r\n\t"); }
TEST_P(TokenizerTime, UpperCaseDigitsAndSigns) {
  expect_linear("A");
  expect_linear("7");
  expect_linear("=");
}
TEST_P(TokenizerTime, Ideographs) { expect_linear("東京"); }
// Two combining classes in turns: what a normalizer has to sort.
TEST_P(TokenizerTime, CombiningMarks) { expect_linear("\u0301\u0323"); }
TEST_P(TokenizerTime, BrokenUtf8) { expect_linear("\xF0\x9F"); }
TEST_P(TokenizerTime, BeginningsOfControlTokens) { expect_linear("<|im_<|begin_of_</"); }

INSTANTIATE_TEST_SUITE_P(All, TokenizerTime,
                         testing::Values("smollm", "llama3", "qwen2", "tekken", "llama2", "odd"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace llamita
