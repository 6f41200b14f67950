// TextJoiner: the bytes of token after token become text as soon as it is certain what text they are.
#pragma once

#include <string>
#include <string_view>

namespace llamita {

class TextJoiner {
 public:
  // `strip_leading_space`: one space at the very start of the text is dropped.
  explicit TextJoiner(bool strip_leading_space) : strip_(strip_leading_space) {}

  // Appends to `out` the text that is now complete: valid UTF-8, each maximal part of a broken character as
  // U+FFFD. A run of byte-fallback tokens (`is_byte`) waits for its end, because what it says hangs on all of
  // it: when the run as a whole is not UTF-8, each of its bytes is a U+FFFD.
  void add(std::string_view bytes, bool is_byte, std::string& out);
  void finish(std::string& out);

 private:
  void end_run(std::string& out);
  void emit(std::string_view text, std::string& out);

  bool strip_;
  std::string run_;      // byte-fallback bytes
  std::string pending_;  // at most three bytes that begin a character
};

}  // namespace llamita
