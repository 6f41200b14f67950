#include "text/grammar/token_trie.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/cat.h"
#include "llamita/error.h"

namespace llamita::grammar {

namespace {

std::vector<std::string> all_bytes(const Tokenizer& tokenizer) {
  std::vector<std::string> out(size_t(tokenizer.vocab_size()));
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (!tokenizer.is_control(id)) out[size_t(id)] = tokenizer.token_bytes(id);
  }
  return out;
}

// C0, C1 and F5 to FF are in no text.
bool used_by_utf8(int byte) { return byte < 0xC0 || (byte > 0xC1 && byte < 0xF5); }

}  // namespace

TokenTrie::TokenTrie(std::vector<std::string> bytes, std::vector<int32_t> stops)
    : bytes_(std::move(bytes)), stops_(std::move(stops)) {
  for (const int32_t stop : stops_) {
    if (stop < 0 || stop >= vocab_size()) {
      throw Error(cat("the stop token ", stop, " is not one of the vocabulary's 0 to ", vocab_size() - 1));
    }
    bytes_[size_t(stop)].clear();
  }
  build();
}

TokenTrie::TokenTrie(const Tokenizer& tokenizer) : TokenTrie(all_bytes(tokenizer), tokenizer.stop_tokens()) {}

bool TokenTrie::is_stop(int32_t token) const {
  return std::find(stops_.begin(), stops_.end(), token) != stops_.end();
}

void TokenTrie::build() {
  std::vector<int32_t> order;
  for (int32_t id = 0; id < vocab_size(); ++id) {
    if (!bytes(id).empty()) order.push_back(id);
  }
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return std::pair(std::string_view(bytes(a)), a) < std::pair(std::string_view(bytes(b)), b);
  });
  std::vector<int32_t> path;  // nodes of the token before, one a byte
  std::string_view before;
  bool single[256] = {};
  for (const int32_t id : order) {
    const std::string_view now = bytes(id);
    longest_ = std::max(longest_, static_cast<int32_t>(now.size()));
    if (now.size() == 1) single[static_cast<uint8_t>(now[0])] = true;
    const auto common = static_cast<size_t>(
        std::mismatch(now.begin(), now.end(), before.begin(), before.end()).first - now.begin());
    const auto close = [&](size_t depth) {
      while (path.size() > depth) {
        nodes_[size_t(path.back())].next = static_cast<int32_t>(nodes_.size());
        path.pop_back();
      }
    };
    close(common);
    for (size_t i = common; i < now.size(); ++i) {
      path.push_back(static_cast<int32_t>(nodes_.size()));
      nodes_.push_back(
          {0, static_cast<int32_t>(tokens_.size()), static_cast<int32_t>(i), static_cast<uint8_t>(now[i])});
    }
    tokens_.push_back(id);
    before = now;
  }
  for (const int32_t open : path) nodes_[size_t(open)].next = static_cast<int32_t>(nodes_.size());
  nodes_.push_back({0, static_cast<int32_t>(tokens_.size()), 0, 0});
  for (int byte = 0; byte < 256; ++byte) spells_everything_ &= single[byte] || !used_by_utf8(byte);
}

}  // namespace llamita::grammar
