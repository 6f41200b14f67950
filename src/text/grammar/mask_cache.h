// Masks that many steps and requests share: for a state of the grammar, the tokens that stay inside its rule
// are the same whatever lies below on the stack, so they are found by one walk over the vocabulary and kept.
// The few tokens that run past the rule's end are kept as the places in the trie where they do; a Matcher
// follows those with the stack it has. (The split is the one of XGrammar, Dong et al. 2024; counts of repeats
// join the key here, cut down to what one token can tell apart.) A set of many stacks, which an ambiguous
// grammar gives, is walked once with all of them instead: their masks are mostly the same. Safe to use from
// many threads.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "text/grammar/grammar.h"
#include "text/grammar/stack_sets.h"
#include "text/grammar/token_trie.h"

namespace llamita::grammar {

class MaskCache {
 public:
  struct Entry {
    std::vector<uint32_t>
        allowed;  // one bit a token: those that begin inside the rule and reach its end at most
    std::vector<int32_t> exits;  // trie nodes with children at whose end the rule may have ended
    int64_t work = 0;            // that it took, whoever asks
  };
  using Key = std::vector<int32_t>;
  // What of a stack decides an entry: the state, and the rounds of repeats right below it.
  struct Window {
    Key key;
    int32_t below;  // the frame under the window
  };

  // Keeps at most about `memory` bytes of masks.
  MaskCache(std::shared_ptr<const Grammar> grammar, std::shared_ptr<const TokenTrie> trie,
            size_t memory = size_t{64} << 20);

  const Grammar& grammar() const { return *grammar_; }
  const TokenTrie& trie() const { return *trie_; }

  Window window(const StackSets& stacks, StackSets::Config config) const;
  // Of all the stacks of a set, whole; its entry has no exits.
  static Key whole(const StackSets& stacks, int32_t set);
  // Nothing when it takes more than `work` and is not there yet.
  std::shared_ptr<const Entry> find(const Key& key, int64_t work);

  struct KeyHash {
    size_t operator()(const Key& key) const;
  };

 private:
  std::shared_ptr<const Entry> compute(const Key& key, int64_t work) const;

  std::shared_ptr<const Grammar> grammar_;
  std::shared_ptr<const TokenTrie> trie_;
  size_t capacity_;
  std::mutex mutex_;
  size_t used_ = 0;
  std::unordered_map<Key, std::shared_ptr<const Entry>, KeyHash> entries_;
};

// Sets the bits of the tokens at or below trie nodes [begin, end) that `stacks` can read from `set`; the
// nodes' depths count from `depth`. Nodes with children where the text may be complete go to `exits`, if any.
// Stops when the work of `stacks` is spent.
void walk_tokens(const TokenTrie& trie, StackSets& stacks, int32_t set, int32_t begin, int32_t end,
                 int32_t depth, uint32_t* allowed, std::vector<int32_t>* exits);

}  // namespace llamita::grammar
