#include "text/pipeline_tokenizer.h"

#include <algorithm>

#include "base/cat.h"
#include "llamita/error.h"
#include "text/text_joiner.h"
#include "text/unicode.h"

namespace llamita {

// Text of one trust; adjacent pieces of the same trust are one run.
struct PipelineTokenizer::Run {
  size_t begin;
  size_t end;
  bool trusted;
};

struct PipelineTokenizer::Segment {
  std::string_view text;
  bool trusted;
  bool text_start;  // the very first text
  bool continues;   // cut from the text before it by a change of trust
};

// One call of encode().
class PipelineTokenizer::Encoder {
 public:
  Encoder(const PipelineTokenizer& tokenizer, std::span<const Piece> pieces) : tokenizer_(tokenizer) {
    for (size_t i = 0; i < pieces.size();) {
      const bool trusted = pieces[i].trusted;
      std::string bytes;
      for (; i < pieces.size() && pieces[i].trusted == trusted; ++i) bytes += pieces[i].text;
      const size_t begin = text_.size();
      unicode::append_lossy(text_, bytes);
      if (text_.size() > begin) runs_.push_back({begin, text_.size(), trusted});
    }
  }

  void encode(std::vector<int32_t>& out) {
    std::vector<AddedTokenMatcher::Match> matches;
    for (const Run& run : runs_) {
      tokenizer_.raw_matcher_.find(text_, run.begin, run.end, run.trusted, matches);
    }
    size_t at = 0;
    for (const auto& match : matches) {
      encode_between(at, match.begin, out);
      out.push_back(match.id);
      at = match.end;
    }
    encode_between(at, text_.size(), out);
  }

 private:
  // Text between added tokens. Words and merges run on where trust changes, as if the text had come in one
  // piece: they spell no control token whoever wrote them. Only where normalized text may still hold a
  // control token that someone untrusted wrote is the text cut by trust.
  void encode_between(size_t begin, size_t end, std::vector<int32_t>& out) {
    for (bool continues = false; begin < end; continues = true) {
      while (runs_[run_].end <= begin) ++run_;
      const bool trusted = runs_[run_].trusted;
      const bool mixed = runs_[run_].end < end;
      const bool cut = mixed && tokenizer_.normalized_matcher_.has_special();
      const size_t stop = cut ? runs_[run_].end : end;
      encode_segment({std::string_view(text_).substr(begin, stop - begin), trusted && (cut || !mixed),
                      begin == 0, continues},
                     out);
      begin = stop;
    }
  }

  void encode_segment(const Segment& segment, std::vector<int32_t>& out) {
    std::string text(segment.text);
    tokenizer_.parts_.normalizer.apply(text, segment.continues);
    std::vector<AddedTokenMatcher::Match> matches;
    tokenizer_.normalized_matcher_.find(text, 0, text.size(), segment.trusted, matches);
    size_t at = 0;
    const auto encode_words = [&](size_t end) {
      if (at == end) return;
      Words words;
      words.list.push_back({std::string_view(text).substr(at, end - at), segment.text_start && at == 0,
                            segment.continues && at == 0});
      tokenizer_.parts_.pre_tokenizer.apply(words);
      for (const auto& word : words.list) tokenizer_.parts_.model->encode(word.text, scratch_, out);
    };
    for (const auto& match : matches) {
      encode_words(match.begin);
      out.push_back(match.id);
      at = match.end;
    }
    encode_words(text.size());
  }

  const PipelineTokenizer& tokenizer_;
  std::string text_;  // of all pieces, valid UTF-8
  std::vector<Run> runs_;
  size_t run_ = 0;
  merging::Scratch scratch_;
};

PipelineTokenizer::PipelineTokenizer(TokenizerParts parts, const std::string& source)
    : parts_(std::move(parts)) {
  const auto check = [&](int32_t id, const char* what) {
    if (!parts_.vocabulary->contains(id)) {
      throw Error(
          cat(source, ": ", what, " ", id, " is outside the vocabulary of ", vocab_size(), " tokens"));
    }
  };
  parts_.control.resize(static_cast<size_t>(vocab_size()), false);
  for (AddedToken& token : parts_.added_tokens) {
    check(token.id, "added token");
    if (parts_.control[static_cast<size_t>(token.id)]) token.special = true;
    if (token.special) parts_.control[static_cast<size_t>(token.id)] = true;
    if (!token.normalized) {
      raw_matcher_.add(token);
      continue;
    }
    AddedToken normalized = token;
    parts_.normalizer.apply(normalized.content, false);
    normalized_matcher_.add(normalized);
  }
  for (const int32_t id : parts_.prefix) check(id, "post-processor's token");
  for (const int32_t id : parts_.suffix) check(id, "post-processor's token");
  if (parts_.bos) check(*parts_.bos, "bos token");
  if (parts_.eos) parts_.stop_tokens.insert(parts_.stop_tokens.begin(), *parts_.eos);
  std::vector<int32_t> stops;
  for (const int32_t id : parts_.stop_tokens) {
    check(id, "stop token");
    if (std::find(stops.begin(), stops.end(), id) == stops.end()) stops.push_back(id);
  }
  parts_.stop_tokens = std::move(stops);
  decoding_ = make_token_decoding(*parts_.vocabulary, parts_.decoder, source);
}

std::vector<int32_t> PipelineTokenizer::encode(std::span<const Piece> pieces, bool add_special) const {
  std::vector<int32_t> ids;
  if (add_special) ids = parts_.prefix;
  Encoder(*this, pieces).encode(ids);
  if (add_special) ids.insert(ids.end(), parts_.suffix.begin(), parts_.suffix.end());
  return ids;
}

std::string PipelineTokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  TextJoiner joiner(decoding_.strip_leading_space);
  std::string out;
  bool first = true;
  for (const int32_t id : ids) {
    if (token_text(id).empty() || (skip_special && is_control(id))) continue;
    joiner.add(decoded_bytes(id, first), is_byte(id), out);
    first = false;
  }
  joiner.finish(out);
  return out;
}

std::string_view PipelineTokenizer::decoded_bytes(int32_t id, bool first) const {
  if (!parts_.vocabulary->contains(id)) return {};
  if (first) {
    const auto found = decoding_.first.find(id);
    if (found != decoding_.first.end()) return found->second;
  }
  return decoding_.bytes[static_cast<size_t>(id)];
}

std::string_view PipelineTokenizer::token_bytes(int32_t id) const {
  return is_control(id) ? std::string_view() : decoded_bytes(id, false);
}
std::string_view PipelineTokenizer::first_token_bytes(int32_t id) const {
  return is_control(id) ? std::string_view() : decoded_bytes(id, true);
}
bool PipelineTokenizer::is_byte(int32_t id) const {
  return parts_.vocabulary->contains(id) && decoding_.is_byte[static_cast<size_t>(id)];
}
std::string_view PipelineTokenizer::token_text(int32_t id) const {
  return parts_.vocabulary->contains(id) ? std::string_view(parts_.vocabulary->text(id)) : std::string_view();
}
std::optional<int32_t> PipelineTokenizer::find(std::string_view token_text) const {
  return parts_.vocabulary->find(token_text);
}
bool PipelineTokenizer::is_control(int32_t id) const {
  return parts_.vocabulary->contains(id) && parts_.control[static_cast<size_t>(id)];
}

}  // namespace llamita
