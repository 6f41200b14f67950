// Holds one reply to a grammar: says which tokens may come next, and follows those that come. One for each
// choice that is being generated; one thread at a time. The MaskCache may be shared with any number of
// others.
//
//   auto masks = std::make_shared<MaskCache>(grammar, trie);   // trie: once a tokenizer
//   Matcher matcher(masks);
//   std::vector<uint32_t> mask(matcher.mask_words());
//   do {
//     matcher.fill_mask(mask);
//     token = sample(logits, mask);
//     matcher.accept(token);
//   } while (!matcher.is_finished());
//
// Some token is allowed until the text is complete, given a vocabulary that spells every byte
// (TokenTrie::spells_everything), and what the tokens spell is valid UTF-8 when it is complete.
//
// The work is bounded, because it is done between two steps that others wait for: a mask may take sixteen
// walks over the vocabulary, and as many as two a token in the long run. A grammar that takes more (one that
// reads what was written in very many ways at once) ends with is_too_costly(). It is counted, not timed, and
// without regard to what the cache has, so that a reply ends there always or never.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/grammar/mask_cache.h"
#include "text/grammar/stack_sets.h"

namespace llamita::grammar {

class Matcher {
 public:
  // Steps that rollback() can take back.
  static constexpr size_t kHistory = 512;
  // What is_too_costly() means to who wrote the grammar.
  static constexpr const char* kTooCostly =
      "the grammar or schema is too costly to follow: what is written can be read as the beginning of too "
      "many of its "
      "alternatives at once; use fewer, or make them differ earlier";

  explicit Matcher(std::shared_ptr<MaskCache> masks);

  // Appends the token. False, and nothing changes, when the grammar does not allow it here. A stop token is
  // allowed when the text is complete, and finishes.
  bool accept(int32_t token);
  // Appends bytes that are no token, forced_bytes() say, as one step.
  bool accept_bytes(std::string_view bytes);

  // The text so far is one of the grammar's; it may be possible to go on.
  bool is_complete() const { return stacks_.complete(set()); }
  // The work is used up: nothing is accepted or allowed any more.
  bool is_too_costly() const { return stacks_.spent(); }
  // A stop token came.
  bool is_finished() const { return finished_; }

  // Bit t % 32 of word t / 32 is set when token t may come next, in mask_words() words or more (the rest is
  // cleared: models pad their vocabularies). Returns how many tokens are allowed; 0 only when the text is
  // finished, or complete without a stop token to say so, or too costly.
  size_t fill_mask(std::span<uint32_t> mask);
  size_t mask_words() const { return masks_->trie().mask_words(); }

  // The bytes that must come next, whatever the model says: up to 256, none where there is a choice. Valid
  // UTF-8 only together with what comes before and after.
  std::string forced_bytes();

  // Takes the last n steps back. False, and nothing changes, when there are not so many (at most kHistory).
  bool rollback(size_t n);
  size_t steps() const { return history_.size() - 1; }  // that can be taken back

 private:
  int32_t set() const { return history_.back(); }
  int32_t after(int32_t set, std::string_view bytes);
  void append(int32_t set);
  void add_allowed(int32_t set, std::span<uint32_t> mask);
  std::shared_ptr<const MaskCache::Entry> entry(const MaskCache::Key& key);
  int64_t walks(int64_t n) const;

  std::shared_ptr<MaskCache> masks_;
  StackSets stacks_;
  std::vector<int32_t> history_;  // the set after each step, the first one first
  bool finished_ = false;         // the last step was a stop token
  int32_t kept_set_ = -1;         // of kept_mask_
  std::vector<uint32_t> kept_mask_;
  NumberSet paid_;  // hashes of the entries that this reply has paid for
  int paid_count_ = 0;
};

}  // namespace llamita::grammar
