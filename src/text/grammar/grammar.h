// A compiled grammar: which texts a model may write. A pushdown automaton over bytes: each rule is a
// deterministic automaton whose edges read a byte or call a rule; a call with counts repeats its rule and
// keeps the count on the stack, so that "at most 5,000 characters" costs one state. Immutable once built and
// safe to share between threads.
//
//   auto grammar = parse_gbnf("root ::= \"yes\" | \"no\"");           // gbnf.h
//   auto grammar = json_schema_grammar(R"({"type":"integer"})");     // json_schema.h
//
// From every state some text leads to the end, within `kMaxLevels` of nesting: a Matcher never paints itself
// into a corner. See matcher.h for how it is run.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "text/grammar/automaton.h"

namespace llamita::grammar {

constexpr int32_t kUnbounded = std::numeric_limits<int32_t>::max();
// How deep rules that nest (the arrays and objects of JSON, every rule of GBNF) may stand inside each other.
// What `Json::parse` takes by default.
constexpr int32_t kMaxLevels = 64;

class Grammar {
 public:
  // `rule`, min to max times. {rule, 1, 1} is a plain call.
  struct Call {
    int32_t rule;
    int32_t min;
    int32_t max;
    bool repeats() const { return min != 1 || max != 1; }
  };

  struct State {
    int32_t first_edge;
    int32_t first_call;
    int32_t rule;
    int32_t need;  // levels of nesting that the shortest way to the rule's end takes, its own included
    bool final;
  };

  std::span<const ByteEdge> edges(int32_t state) const {
    const size_t at = size_t(state);
    return {edges_.data() + states_[at].first_edge, edges_.data() + states_[at + 1].first_edge};
  }
  std::span<const CallEdge> calls(int32_t state) const {
    const size_t at = size_t(state);
    return {calls_.data() + states_[at].first_call, calls_.data() + states_[at + 1].first_call};
  }
  const State& state(int32_t id) const { return states_[size_t(id)]; }
  // Nothing follows: a call from here to there needs no frame.
  bool only_returns(int32_t id) const { return state(id).final && edges(id).empty() && calls(id).empty(); }
  const Call& call(int32_t id) const { return call_table_[size_t(id)]; }
  int32_t start(int32_t rule) const { return rules_[size_t(rule)].start; }
  bool nests(int32_t rule) const { return rules_[size_t(rule)].nests; }
  int32_t root() const { return root_; }
  int32_t max_need() const { return max_need_; }

  // Bytes that every edge treats alike share a class: 0 .. classes() - 1.
  int32_t classes() const { return classes_; }
  uint8_t byte_class(uint8_t byte) const { return byte_class_[byte]; }

  size_t state_count() const { return states_.size() - 1; }
  size_t rule_count() const { return rules_.size(); }

 private:
  friend class GrammarLinker;
  struct Rule {
    int32_t start;
    bool nests;
  };

  std::vector<State> states_;  // and one past the end, for the spans above
  std::vector<ByteEdge> edges_;
  std::vector<CallEdge> calls_;
  std::vector<Call> call_table_;
  std::vector<Rule> rules_;
  int32_t root_ = 0;
  int32_t max_need_ = 0;
  int32_t classes_ = 0;
  std::array<uint8_t, 256> byte_class_{};
};

}  // namespace llamita::grammar
