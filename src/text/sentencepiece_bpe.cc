#include "text/sentencepiece_bpe.h"

#include <algorithm>
#include <numeric>

#include "text/unicode.h"

namespace llamita {

SentencePieceBpeModel::SentencePieceBpeModel(const Vocabulary& vocabulary, const std::vector<double>& scores,
                                             std::vector<bool> excluded,
                                             const std::array<int32_t, 256>& bytes,
                                             std::optional<int32_t> unk)
    : vocabulary_(vocabulary),
      rank_(scores.size()),
      excluded_(std::move(excluded)),
      bytes_(bytes),
      unk_(unk) {
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  uint32_t rank = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && scores[order[i]] != scores[order[i - 1]]) ++rank;
    rank_[order[i]] = rank;
  }
  for (int32_t id = 0; id < vocabulary.size(); ++id)
    longest_ = std::max(longest_, vocabulary.text(id).size());
}

int32_t SentencePieceBpeModel::find(std::string_view text) const {
  const auto id = vocabulary_.find(text);
  return id && !excluded_[static_cast<size_t>(*id)] ? *id : -1;
}

void SentencePieceBpeModel::encode(std::string_view word, merging::Scratch& scratch,
                                   std::vector<int32_t>& out) const {
  scratch.clear();
  for (size_t at = 0; at < word.size();) {
    const size_t length = unicode::decode(word, at).length;
    scratch.add(find(word.substr(at, length)), at, length);
    at += length;
  }
  if (scratch.symbols.empty()) return;
  merging::merge_all(scratch,
                     [&](const merging::Symbol& left, const merging::Symbol& right, merging::Merge& merge) {
                       const size_t length = size_t{left.length} + right.length;
                       if (length > longest_) return false;
                       merge.id = find(word.substr(left.begin, length));
                       if (merge.id >= 0) merge.rank = rank_[static_cast<size_t>(merge.id)];
                       return merge.id >= 0;
                     });
  bool after_unk = false;
  for (uint32_t at = 0; at != merging::kNone; at = scratch.symbols[at].next) {
    const merging::Symbol& symbol = scratch.symbols[at];
    const std::string_view text = word.substr(symbol.begin, symbol.length);
    const bool spelled_in_bytes = std::all_of(
        text.begin(), text.end(), [&](char c) { return bytes_[static_cast<unsigned char>(c)] >= 0; });
    if (symbol.id >= 0) {
      out.push_back(symbol.id);
    } else if (spelled_in_bytes) {
      for (const char c : text) out.push_back(bytes_[static_cast<unsigned char>(c)]);
    } else if (unk_ && !after_unk) {
      out.push_back(*unk_);
    }
    after_unk = symbol.id < 0 && !spelled_in_bytes;
  }
}

}  // namespace llamita
