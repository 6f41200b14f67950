// Added tokens ("<|im_end|>", "<tool_call>"): whole strings that are found in the text before anything else
// looks at it, the leftmost first and the longest of those that begin there.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace llamita {

struct AddedToken {
  int32_t id = -1;
  std::string content;
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // and after it
  bool normalized = false;   // looked for in the normalized text, not in the raw one
  bool special = false;      // a control token: never found in untrusted text
};

class AddedTokenMatcher {
 public:
  static constexpr size_t kMaxBytes = 1024;  // of a token; bounds the cost of a search to that factor

  struct Match {
    size_t begin;
    size_t end;
    int32_t id;
  };

  // `token.content` is what is searched for. Throws Error for one that is longer than kMaxBytes.
  void add(const AddedToken& token);

  bool has_special() const { return has_special_; }

  // Appends the matches inside [from, to) of `text`, in order. A token that strips takes white space from all
  // of `text`, but nothing before the end of the last match in `out`. In untrusted text a control token's
  // spelling is stepped over.
  void find(std::string_view text, size_t from, size_t to, bool trusted, std::vector<Match>& out) const;

 private:
  const AddedToken* longest_at(std::string_view text) const;

  std::vector<AddedToken> tokens_;
  bool has_special_ = false;
  // A trie: node 0 is the root, edges are keyed by node and byte.
  std::unordered_map<uint64_t, uint32_t> edges_;
  std::vector<int32_t> token_of_node_{-1};
  bool begins_[256] = {};
};

}  // namespace llamita
