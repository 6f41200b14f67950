#include "text/text_joiner.h"

#include "text/unicode.h"

namespace llamita {

void TextJoiner::add(std::string_view bytes, bool is_byte, std::string& out) {
  if (is_byte) {
    run_.append(bytes);
    return;
  }
  end_run(out);
  std::string joined;
  if (!pending_.empty()) {
    joined = pending_ + std::string(bytes);
    pending_.clear();
    bytes = joined;
  }
  std::string text;
  for (size_t at = 0; at < bytes.size();) {
    const unicode::Sequence next = unicode::sequence_at(bytes, at);
    if (next.truncated) {
      pending_.assign(bytes.substr(at));
      break;
    }
    text.append(next.valid ? bytes.substr(at, next.length) : std::string_view("\uFFFD"));
    at += next.length;
  }
  emit(text, out);
}

void TextJoiner::finish(std::string& out) {
  end_run(out);
  if (!pending_.empty()) emit("\uFFFD", out);
  pending_.clear();
}

void TextJoiner::end_run(std::string& out) {
  if (run_.empty()) return;
  if (unicode::is_valid(run_)) {
    emit(run_, out);
  } else {
    for (size_t i = 0; i < run_.size(); ++i) emit("\uFFFD", out);
  }
  run_.clear();
}

void TextJoiner::emit(std::string_view text, std::string& out) {
  if (text.empty()) return;
  if (strip_ && text.front() == ' ') text.remove_prefix(1);
  strip_ = false;
  out.append(text);
}

}  // namespace llamita
