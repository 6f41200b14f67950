// The last step of compilation: puts the automata of all rules into one table, removes what cannot reach an
// end, refuses left recursion, and computes how many levels of nesting each state still needs.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "text/grammar/automaton.h"
#include "text/grammar/grammar.h"

namespace llamita::grammar {

class GrammarLinker {
 public:
  struct Rule {
    Dfa body;
    bool nests;
    std::string name;  // for errors
  };

  GrammarLinker(std::vector<Rule> rules, std::vector<Grammar::Call> calls, int root, Budget& budget);

  // Throws Error when the root matches nothing, a rule recurses without reading, or a repeat with an upper
  // bound is of something that may be empty.
  std::shared_ptr<const Grammar> link();

 private:
  void find_nullable();
  bool call_nullable(int32_t call) const;
  void settle_repeats();
  void find_needs();
  void refuse_left_recursion() const;
  std::vector<int32_t> first_calls(size_t rule) const;
  void write(Grammar& out) const;
  void write_classes(Grammar& out) const;
  int64_t through(const CallEdge& edge) const;
  int64_t need_of(size_t state) const;
  const Dfa::State& state(size_t id) const;

  std::vector<Rule> rules_;
  std::vector<Grammar::Call> calls_;
  int root_;
  Budget& budget_;
  std::vector<size_t> base_;       // of each rule: the id of its first state
  std::vector<size_t> rule_of_;    // of each state
  std::vector<bool> nullable_;     // of each rule: may be empty
  std::vector<int64_t> need_;      // of each state; kNever when no end can be reached
  std::vector<bool> reaches_end_;  // scratch of find_nullable
};

}  // namespace llamita::grammar
