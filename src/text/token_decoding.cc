#include "text/token_decoding.h"

#include "base/cat.h"
#include "llamita/error.h"
#include "text/unicode.h"

namespace llamita {

namespace {

using decoders::Step;

std::string replaced(const std::string& text, const decoders::Replace& step) {
  std::string out;
  for (const Stretch& stretch : step.pattern.find(text)) {
    out.append(stretch.match ? step.with : text.substr(stretch.begin, stretch.end - stretch.begin));
  }
  return out;
}

std::string stripped(const std::string& text, const decoders::Strip& step) {
  size_t begin = 0, end = text.size();
  for (int64_t i = 0; i < step.left && begin < end; ++i) {
    const auto [c, length] = unicode::decode(text, begin);
    if (c != step.character) break;
    begin += length;
  }
  for (int64_t i = 0; i < step.right && end > begin; ++i) {
    const auto [c, length] = unicode::decode_before(text, end);
    if (c != step.character) break;
    end -= length;
  }
  return text.substr(begin, end - begin);
}

// A token with any character outside the alphabet stands for its own spelling.
std::string unspelled(const std::string& text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const auto [c, length] = unicode::decode(text, at);
    const int byte = char_to_byte(c);
    if (byte < 0) return text;
    out.push_back(static_cast<char>(byte));
    at += length;
  }
  return out;
}

// Applies steps in order to all tokens at once.
class Builder {
 public:
  Builder(const Vocabulary& vocabulary, const std::string& source) : source_(source) {
    const auto size = static_cast<size_t>(vocabulary.size());
    result_.is_byte.resize(size);
    result_.bytes.reserve(size);
    for (int32_t id = 0; id < vocabulary.size(); ++id) result_.bytes.push_back(vocabulary.text(id));
  }

  void operator()(const decoders::ByteLevel&) {
    refuse_after_join("ByteLevel");
    for (std::string& text : result_.bytes) text = unspelled(text);
    joined_ = true;
  }
  void operator()(const decoders::Fuse&) { joined_ = true; }
  void operator()(const decoders::ByteFallback&) {
    refuse_after_join("ByteFallback");
    for (size_t id = 0; id < result_.bytes.size(); ++id) {
      const int byte = byte_of_fallback_token(result_.bytes[id]);
      if (byte < 0) continue;
      result_.bytes[id] = std::string(1, static_cast<char>(byte));
      result_.is_byte[id] = true;
    }
  }
  void operator()(const decoders::Replace& step) {
    refuse_after_join("Replace");
    for_each_text([&](std::string& text) { text = replaced(text, step); });
  }
  void operator()(const decoders::Strip& step) {
    if (!joined_) {
      for_each_text([&](std::string& text) { text = stripped(text, step); });
      return;
    }
    if (step.left == 0 && step.right == 0) return;
    if (step.character != ' ' || step.left != 1 || step.right != 0 || result_.strip_leading_space) {
      throw Error(cat(source_,
                      ": decoder Strip after Fuse is supported for one space at the start; this one strips ",
                      step.left, " from the start and ", step.right, " from the end"));
    }
    result_.strip_leading_space = true;
  }
  void operator()(const decoders::Metaspace& step) {
    refuse_after_join("Metaspace");
    const auto with = [&](const std::string& text, const char* space) {
      return replaced(text, {Pattern::literal(step.replacement), space});
    };
    for (size_t id = 0; id < result_.bytes.size(); ++id) {
      std::string& text = result_.bytes[id];
      if (result_.is_byte[id] || text.find(step.replacement) == std::string::npos) continue;
      if (step.prepended) result_.first[static_cast<int32_t>(id)] = with(text, "");
      text = with(text, " ");
    }
  }
  void operator()(const decoders::Separator&) {
    for (std::string& text : result_.bytes) {
      if (!text.empty()) text.insert(0, " ");
    }
    result_.strip_leading_space = true;
  }

  TokenDecoding finish() { return std::move(result_); }

 private:
  template <class Change>
  void for_each_text(const Change& change) {
    if (!result_.first.empty())
      throw Error(cat(source_, ": a decoder step after Metaspace is not supported"));
    for (size_t id = 0; id < result_.bytes.size(); ++id) {
      if (!result_.is_byte[id]) change(result_.bytes[id]);
    }
  }
  void refuse_after_join(const char* step) const {
    if (joined_) {
      throw Error(cat(source_, ": decoder ", step,
                      " after a step that joins the tokens is not supported, as its "
                      "text could not be streamed"));
    }
  }

  std::string source_;
  TokenDecoding result_;
  bool joined_ = false;
};

}  // namespace

TokenDecoding make_token_decoding(const Vocabulary& vocabulary, const std::vector<Step>& steps,
                                  const std::string& source) {
  Builder builder(vocabulary, source);
  for (const Step& step : steps) std::visit(builder, step);
  return builder.finish();
}

}  // namespace llamita
