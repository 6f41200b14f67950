#include "engine/grammar_cache.h"

#include <algorithm>

#include "base/cat.h"
#include "llamita/request.h"
#include "text/grammar/gbnf.h"
#include "text/grammar/json_schema.h"
#include "text/grammar/matcher.h"

namespace llamita {

namespace {

std::shared_ptr<const grammar::Grammar> parse(const Constraint& constraint, size_t schema_work) {
  switch (constraint.kind) {
    case Constraint::Kind::json_object: return grammar::json_object_grammar();
    case Constraint::Kind::json_schema:
      return grammar::json_schema_grammar(constraint.text, grammar::Layout::spaced, schema_work);
    case Constraint::Kind::gbnf: return grammar::parse_gbnf(constraint.text);
    case Constraint::Kind::none: break;
  }
  throw Error(cat("the constraint is of kind ", static_cast<int>(constraint.kind), ", which does not exist"));
}

}  // namespace

GrammarCache::GrammarCache(const Tokenizer& tokenizer, int32_t choosable, std::vector<int32_t> stops,
                           size_t schema_work)
    : tokenizer_(tokenizer), choosable_(choosable), stops_(std::move(stops)), schema_work_(schema_work) {
  std::erase_if(stops_, [&](int32_t stop) { return stop < 0 || stop >= choosable; });
}

std::shared_ptr<grammar::MaskCache> GrammarCache::find(const Constraint& constraint) {
  if (constraint.kind == Constraint::Kind::none) return nullptr;
  const bool has_text = constraint.kind != Constraint::Kind::json_object;
  const Key key{constraint.kind, has_text ? constraint.text : ""};
  std::promise<std::shared_ptr<grammar::MaskCache>> promise;
  uint64_t number = 0;
  Form form;
  {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(key);
    if (found != entries_.end()) {
      uses_.splice(uses_.end(), uses_, found->second.use);
      form = found->second.form;
    } else {
      number = next_number_++;
      uses_.push_back(key);
      entries_.emplace(key, Entry{promise.get_future().share(), std::prev(uses_.end()), number});
      if (entries_.size() > kForms) {
        entries_.erase(uses_.front());
        uses_.pop_front();
      }
    }
  }
  if (form.valid()) return form.get();
  try {
    auto compiled = compile(constraint);
    promise.set_value(compiled);
    return compiled;
  } catch (...) {
    promise.set_exception(std::current_exception());
    drop(key, number);
    throw;
  }
}

// Forgets what could not be compiled, unless it has made room already.
void GrammarCache::drop(const Key& key, uint64_t number) {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(key);
  if (found == entries_.end() || found->second.number != number) return;
  uses_.erase(found->second.use);
  entries_.erase(found);
}

std::shared_ptr<grammar::MaskCache> GrammarCache::compile(const Constraint& constraint) {
  auto form = std::make_shared<grammar::MaskCache>(parse(constraint, schema_work_), trie(), kMaskBytes);
  grammar::Matcher matcher(form);
  std::vector<uint32_t> mask(matcher.mask_words());
  const bool allows = matcher.fill_mask(mask) > 0;
  if (matcher.is_too_costly()) throw GrammarTooCostly(grammar::Matcher::kTooCostly);
  if (!allows) {
    throw Error("the constraint allows no reply in this model's vocabulary: no token can be its first");
  }
  return form;
}

std::shared_ptr<const grammar::TokenTrie> GrammarCache::trie() {
  std::call_once(trie_once_, [&] {
    std::vector<std::string> bytes;
    for (int32_t token = 0; token < choosable_; ++token) bytes.emplace_back(tokenizer_.token_bytes(token));
    trie_ = std::make_shared<const grammar::TokenTrie>(std::move(bytes), stops_);
  });
  return trie_;
}

}  // namespace llamita
