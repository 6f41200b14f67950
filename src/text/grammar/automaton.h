// Finite automata over bytes and calls of rules: the body of one rule. Built as an NFA, made deterministic by
// the subset construction, where a call is a symbol like a byte. All work is paid from a Budget, because a
// regular expression of 30 characters can ask for 2^20 states.
#pragma once

#include <cstdint>
#include <vector>

namespace llamita::grammar {

// Steps of compilation; a grammar of ordinary size takes thousands. Throws Error when they are used up.
class Budget {
 public:
  explicit Budget(int64_t steps) : left_(steps) {}
  void spend(int64_t steps) {
    left_ -= steps;
    if (left_ < 0) exhausted();
  }

 private:
  [[noreturn]] static void exhausted();
  int64_t left_;
};

struct ByteEdge {
  uint8_t first;
  uint8_t last;  // inclusive
  int32_t to;
};

struct CallEdge {
  int32_t call;  // index into the grammar's table of calls
  int32_t to;
};

struct Nfa {
  struct State {
    std::vector<ByteEdge> edges;
    std::vector<CallEdge> calls;
    std::vector<int32_t> empty;  // moves without a byte
  };
  std::vector<State> states;

  int32_t add() {
    states.emplace_back();
    return static_cast<int32_t>(states.size()) - 1;
  }
};

struct Dfa {
  struct State {
    std::vector<ByteEdge> edges;  // sorted and disjoint
    std::vector<CallEdge> calls;  // sorted by call, each once
    bool final = false;
  };
  std::vector<State> states;  // 0 is the start
};

// The DFA of `nfa` from `start` to `end`.
Dfa determinize(const Nfa& nfa, int32_t start, int32_t end, Budget& budget);

// The texts that are in `a` and in `b` (or, with `negate`, not in `b`). Both without calls.
Dfa product(const Dfa& a, const Dfa& b, bool negate, Budget& budget);

}  // namespace llamita::grammar
