// PreTokenizer: cuts a normalized text into words, the stretches that merges stay inside of.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/pattern.h"

namespace llamita {

// A text cut into words. A step that changes characters keeps its own copy in `owned`.
struct Words {
  struct Word {
    std::string_view text;
    bool text_start = false;  // begins where the whole text begins
    bool continues = false;   // goes on from text before it (see Normalizer::Step)
  };

  std::vector<Word> list;
  std::deque<std::string> owned;

  std::string_view own(std::string text) { return owned.emplace_back(std::move(text)); }
};

class PreTokenizer {
 public:
  class Step {
   public:
    virtual ~Step() = default;
    virtual void apply(Words& words) const = 0;
  };

  void add(std::unique_ptr<const Step> step) { steps_.push_back(std::move(step)); }

  void apply(Words& words) const {
    for (const auto& step : steps_) step->apply(words);
  }

 private:
  std::vector<std::unique_ptr<const Step>> steps_;
};

namespace pre_tokenizers {

// What becomes of the matches of a pattern that splits.
enum class Behavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

// `invert`: what lies between matches counts as match.
std::unique_ptr<const PreTokenizer::Step> split(Pattern pattern, Behavior behavior, bool invert);
// A space before every word that has none.
std::unique_ptr<const PreTokenizer::Step> prefix_space();
// Runs of word characters and runs of other characters, without the white space.
std::unique_ptr<const PreTokenizer::Step> whitespace();

enum class Prepend { always, first, never };

// Spaces become `replacement` (a character), which also goes before the text as `prepend` says; with `split`
// each replacement begins a word.
std::unique_ptr<const PreTokenizer::Step> metaspace(std::string replacement, Prepend prepend, bool split);

}  // namespace pre_tokenizers

}  // namespace llamita
