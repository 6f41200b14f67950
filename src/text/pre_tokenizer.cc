#include "text/pre_tokenizer.h"

#include <algorithm>

#include "text/unicode.h"

namespace llamita::pre_tokenizers {

namespace {

using Step = PreTokenizer::Step;

// Joins a match with the stretch before it. A match right after a match begins a stretch of its own.
std::vector<Stretch> merged_with_previous(const std::vector<Stretch>& stretches) {
  std::vector<Stretch> out;
  bool after_match = false;
  for (const Stretch& next : stretches) {
    if (next.match && !after_match && !out.empty()) {
      out.back().end = next.end;
    } else {
      out.push_back(next);
    }
    after_match = next.match;
  }
  return out;
}

// The mirror image: a match right before a match stands alone.
std::vector<Stretch> merged_with_next(const std::vector<Stretch>& stretches) {
  std::vector<Stretch> out;
  bool before_match = false;
  for (auto next = stretches.rbegin(); next != stretches.rend(); ++next) {
    if (next->match && !before_match && !out.empty()) {
      out.back().begin = next->begin;
    } else {
      out.push_back(*next);
    }
    before_match = next->match;
  }
  std::reverse(out.begin(), out.end());
  return out;
}

std::vector<Stretch> contiguous(const std::vector<Stretch>& stretches) {
  std::vector<Stretch> out;
  for (const Stretch& next : stretches) {
    if (!out.empty() && out.back().match == next.match) {
      out.back().end = next.end;
    } else {
      out.push_back(next);
    }
  }
  return out;
}

std::vector<Stretch> arrange(std::vector<Stretch> stretches, Behavior behavior) {
  switch (behavior) {
    case Behavior::merged_with_previous: return merged_with_previous(stretches);
    case Behavior::merged_with_next: return merged_with_next(stretches);
    case Behavior::contiguous: return contiguous(stretches);
    case Behavior::removed:
      std::erase_if(stretches, [](const Stretch& s) { return s.match; });
      return stretches;
    case Behavior::isolated: return stretches;
  }
  return stretches;
}

// Puts the parts of `word` into `out`; only a part at its beginning inherits what is said of that.
void put_parts(const Words::Word& word, const std::vector<Stretch>& parts, std::vector<Words::Word>& out) {
  for (const Stretch& part : parts) {
    if (part.begin == part.end) continue;
    const bool first = part.begin == 0;
    out.push_back({word.text.substr(part.begin, part.end - part.begin), first && word.text_start,
                   first && word.continues});
  }
}

class Split final : public Step {
 public:
  Split(Pattern pattern, Behavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}

  void apply(Words& words) const override {
    std::vector<Words::Word> out;
    for (const Words::Word& word : words.list) {
      std::vector<Stretch> stretches = pattern_.find(word.text);
      if (invert_) {
        for (Stretch& stretch : stretches) stretch.match = !stretch.match;
      }
      put_parts(word, arrange(std::move(stretches), behavior_), out);
    }
    words.list = std::move(out);
  }

 private:
  Pattern pattern_;
  Behavior behavior_;
  bool invert_;
};

class PrefixSpace final : public Step {
 public:
  void apply(Words& words) const override {
    for (Words::Word& word : words.list) {
      if (word.continues || word.text.starts_with(' ')) continue;
      word.text = words.own(" " + std::string(word.text));
    }
  }
};

class Whitespace final : public Step {
 public:
  void apply(Words& words) const override {
    enum Kind { space, word, other };
    const auto kind_of = [](char32_t c) {
      return unicode::is_word(c) ? word : unicode::is_space(c) ? space : other;
    };
    std::vector<Words::Word> out;
    for (const Words::Word& whole : words.list) {
      std::vector<Stretch> parts;
      Kind last = space;
      for (size_t at = 0; at < whole.text.size();) {
        const auto [c, length] = unicode::decode(whole.text, at);
        const Kind kind = kind_of(c);
        if (kind != space && kind != last) parts.push_back({at, at, true});
        at += length;
        if (kind != space) parts.back().end = at;
        last = kind;
      }
      put_parts(whole, parts, out);
    }
    words.list = std::move(out);
  }
};

class Metaspace final : public Step {
 public:
  Metaspace(std::string replacement, Prepend prepend, bool split)
      : replacement_(std::move(replacement)), prepend_(prepend), split_(split) {}

  void apply(Words& words) const override {
    std::vector<Words::Word> out;
    for (const Words::Word& word : words.list) {
      Words::Word changed = word;
      changed.text = words.own(replaced(word));
      if (!split_) {
        out.push_back(changed);
      } else {
        put_parts(changed, merged_with_next(Pattern::literal(replacement_).find(changed.text)), out);
      }
    }
    words.list = std::move(out);
  }

 private:
  std::string replaced(const Words::Word& word) const {
    std::string text;
    text.reserve(word.text.size() + replacement_.size());
    const bool wanted = prepend_ == Prepend::always || (prepend_ == Prepend::first && word.text_start);
    const bool there = word.text.starts_with(' ') || word.text.starts_with(replacement_);
    if (wanted && !there && !word.continues) text.append(replacement_);
    for (const char c : word.text) {
      if (c == ' ') {
        text.append(replacement_);
      } else {
        text.push_back(c);
      }
    }
    return text;
  }

  std::string replacement_;
  Prepend prepend_;
  bool split_;
};

}  // namespace

std::unique_ptr<const Step> split(Pattern pattern, Behavior behavior, bool invert) {
  return std::make_unique<Split>(std::move(pattern), behavior, invert);
}
std::unique_ptr<const Step> prefix_space() { return std::make_unique<PrefixSpace>(); }
std::unique_ptr<const Step> whitespace() { return std::make_unique<Whitespace>(); }
std::unique_ptr<const Step> metaspace(std::string replacement, Prepend prepend, bool split) {
  return std::make_unique<Metaspace>(std::move(replacement), prepend, split);
}

}  // namespace llamita::pre_tokenizers
