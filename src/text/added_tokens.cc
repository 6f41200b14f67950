#include "text/added_tokens.h"

#include <algorithm>

#include "base/cat.h"
#include "llamita/error.h"
#include "text/unicode.h"

namespace llamita {

namespace {

uint64_t edge(uint32_t node, char byte) { return uint64_t{node} << 8 | static_cast<unsigned char>(byte); }

bool touches_word(std::string_view text, size_t begin, size_t end) {
  if (begin > 0 && unicode::is_word(unicode::decode_before(text, begin).c)) return true;
  return end < text.size() && unicode::is_word(unicode::decode(text, end).c);
}

}  // namespace

void AddedTokenMatcher::add(const AddedToken& token) {
  if (token.content.empty()) return;
  if (token.content.size() > kMaxBytes) {
    throw Error(cat("added token ", token.id, " is ", token.content.size(), " bytes long; at most ",
                    kMaxBytes, " are supported"));
  }
  has_special_ = has_special_ || token.special;
  begins_[static_cast<unsigned char>(token.content[0])] = true;
  uint32_t node = 0;
  for (const char byte : token.content) {
    const auto [entry, added] =
        edges_.emplace(edge(node, byte), static_cast<uint32_t>(token_of_node_.size()));
    if (added) token_of_node_.push_back(-1);
    node = entry->second;
  }
  if (token_of_node_[node] >= 0) return;  // the first of two spelled alike
  token_of_node_[node] = static_cast<int32_t>(tokens_.size());
  tokens_.push_back(token);
}

const AddedToken* AddedTokenMatcher::longest_at(std::string_view text) const {
  const AddedToken* longest = nullptr;
  uint32_t node = 0;
  for (const char byte : text) {
    const auto next = edges_.find(edge(node, byte));
    if (next == edges_.end()) break;
    node = next->second;
    if (token_of_node_[node] >= 0) longest = &tokens_[static_cast<size_t>(token_of_node_[node])];
  }
  return longest;
}

void AddedTokenMatcher::find(std::string_view text, size_t from, size_t to, bool trusted,
                             std::vector<Match>& out) const {
  if (tokens_.empty()) return;
  for (size_t at = from; at < to;) {
    const AddedToken* token =
        begins_[static_cast<unsigned char>(text[at])] ? longest_at(text.substr(at, to - at)) : nullptr;
    if (token == nullptr) {
      ++at;
      continue;
    }
    size_t begin = at, end = at + token->content.size();
    at = end;
    if (token->special && !trusted) continue;
    if (token->single_word && touches_word(text, begin, end)) continue;
    const size_t taken = out.empty() ? 0 : out.back().end;
    if (begin < taken) continue;  // white space that the token before has taken
    while (token->lstrip && begin > taken) {
      const auto [c, length] = unicode::decode_before(text, begin);
      if (!unicode::is_space(c)) break;
      begin -= length;
    }
    while (token->rstrip && end < text.size()) {
      const auto [c, length] = unicode::decode(text, end);
      if (!unicode::is_space(c)) break;
      end += length;
    }
    out.push_back({begin, end, token->id});
  }
}

}  // namespace llamita
