// GrammarCache: the compiled forms that replies are held to, kept by their text: requests come again with the
// same schema, and compiling one may take up to a second. Safe to use from many threads; one that asks for
// what another is compiling waits for it.
#pragma once

#include <future>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "llamita/sampling_params.h"
#include "text/grammar/json_schema.h"
#include "text/grammar/mask_cache.h"
#include "text/tokenizer.h"

namespace llamita {

class GrammarCache {
 public:
  static constexpr size_t kForms = 16;                    // kept
  static constexpr size_t kMaskBytes = size_t{16} << 20;  // of masks, for each

  // Borrows the tokenizer. Replies consist of tokens below `choosable` and end with one of `stops`.
  // Schemas take at most `schema_work` to compile (EngineConfig).
  GrammarCache(const Tokenizer& tokenizer, int32_t choosable, std::vector<int32_t> stops,
               size_t schema_work = grammar::kMaxSchemaWork);

  // Null for Constraint::Kind::none. Throws Error for a text that is not of its kind, is too large or allows
  // no first token.
  std::shared_ptr<grammar::MaskCache> find(const Constraint& constraint);

 private:
  using Key = std::pair<Constraint::Kind, std::string>;
  using Form = std::shared_future<std::shared_ptr<grammar::MaskCache>>;
  struct Entry {
    Form form;
    std::list<Key>::iterator use;
    uint64_t number;
  };

  std::shared_ptr<grammar::MaskCache> compile(const Constraint& constraint);
  std::shared_ptr<const grammar::TokenTrie> trie();
  void drop(const Key& key, uint64_t number);

  const Tokenizer& tokenizer_;
  int32_t choosable_;
  std::vector<int32_t> stops_;
  size_t schema_work_;
  std::once_flag trie_once_;
  std::shared_ptr<const grammar::TokenTrie> trie_;  // made when first needed
  std::mutex mutex_;
  std::list<Key> uses_;  // the latest last
  std::map<Key, Entry> entries_;
  uint64_t next_number_ = 1;
};

}  // namespace llamita
