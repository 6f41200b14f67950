#include "text/grammar/automaton.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/check.h"
#include "llamita/error.h"

namespace llamita::grammar {

namespace {

using Set = std::vector<int32_t>;  // sorted NFA states

class Subsets {
 public:
  Subsets(const Nfa& nfa, Budget& budget) : nfa_(nfa), budget_(budget), seen_(nfa.states.size()) {}

  Dfa run(int32_t start, int32_t end) {
    intern({start});
    for (size_t at = 0; at < sets_.size(); ++at) {
      const Set set = *sets_[at];
      out_.states[at].final = std::binary_search(set.begin(), set.end(), end);
      add_edges(at, set);
      add_calls(at, set);
    }
    return std::move(out_);
  }

 private:
  int32_t intern(Set seeds) {
    close(seeds);
    budget_.spend(8 * static_cast<int64_t>(seeds.size()));  // finding it among the others compares many times
    const auto [place, fresh] = ids_.try_emplace(std::move(seeds), static_cast<int32_t>(sets_.size()));
    if (fresh) {
      sets_.push_back(&place->first);
      out_.states.emplace_back();
    }
    return place->second;
  }

  void close(Set& set) {
    ++round_;
    Set closed;
    while (!set.empty()) {
      const int32_t state = set.back();
      set.pop_back();
      if (seen_[size_t(state)] == round_) continue;
      seen_[size_t(state)] = round_;
      closed.push_back(state);
      const auto& empty = nfa_.states[size_t(state)].empty;
      budget_.spend(1 + static_cast<int64_t>(empty.size()));
      set.insert(set.end(), empty.begin(), empty.end());
    }
    std::sort(closed.begin(), closed.end());
    set = std::move(closed);
  }

  void add_edges(size_t at, const Set& set) {
    std::vector<ByteEdge> edges;
    bool border[257] = {};
    for (const int32_t state : set) {
      for (const ByteEdge& edge : nfa_.states[size_t(state)].edges) {
        edges.push_back(edge);
        border[edge.first] = border[edge.last + 1] = true;
      }
    }
    for (int first = 0; first < 256 && !edges.empty();) {
      int next = first + 1;
      while (next < 256 && !border[next]) ++next;
      Set targets;
      for (const ByteEdge& edge : edges) {
        if (edge.first <= first && first <= edge.last) targets.push_back(edge.to);
      }
      budget_.spend(static_cast<int64_t>(edges.size()));
      if (!targets.empty()) {
        const int32_t to = intern(std::move(targets));
        auto& made = out_.states[at].edges;
        if (!made.empty() && made.back().to == to && made.back().last + 1 == first) {
          made.back().last = static_cast<uint8_t>(next - 1);
        } else {
          made.push_back({static_cast<uint8_t>(first), static_cast<uint8_t>(next - 1), to});
        }
      }
      first = next;
    }
  }

  void add_calls(size_t at, const Set& set) {
    std::map<int32_t, Set> targets;
    for (const int32_t state : set) {
      for (const CallEdge& edge : nfa_.states[size_t(state)].calls) targets[edge.call].push_back(edge.to);
    }
    for (auto& [call, to] : targets) {
      const int32_t id = intern(std::move(to));
      out_.states[at].calls.push_back({call, id});
    }
  }

  const Nfa& nfa_;
  Budget& budget_;
  std::vector<int32_t> seen_;
  int32_t round_ = 0;
  std::map<Set, int32_t> ids_;
  std::vector<const Set*> sets_;
  Dfa out_;
};

}  // namespace

void Budget::exhausted() {
  throw Error(
      "the grammar takes more work to compile than is allowed: use fewer alternatives, smaller repeat counts "
      "and "
      "patterns whose choices depend on what was read, not on what follows");
}

Dfa determinize(const Nfa& nfa, int32_t start, int32_t end, Budget& budget) {
  return Subsets(nfa, budget).run(start, end);
}

Dfa product(const Dfa& a, const Dfa& b, bool negate, Budget& budget) {
  constexpr int32_t kNone = -1;  // b has no state any more
  std::map<std::pair<int32_t, int32_t>, int32_t> ids;
  std::vector<std::pair<int32_t, int32_t>> pairs;
  Dfa out;
  const auto intern = [&](int32_t left, int32_t right) {
    const auto [place, fresh] = ids.try_emplace({left, right}, static_cast<int32_t>(pairs.size()));
    if (fresh) {
      pairs.emplace_back(left, right);
      out.states.emplace_back();
    }
    return place->second;
  };
  intern(0, 0);
  for (size_t at = 0; at < pairs.size(); ++at) {
    const auto [left, right] = pairs[at];
    const Dfa::State& x = a.states[size_t(left)];
    static const Dfa::State kEmpty;
    const Dfa::State& y = right == kNone ? kEmpty : b.states[size_t(right)];
    LLAMITA_CHECK(x.calls.empty() && y.calls.empty(), "products are of automata without calls");
    out.states[at].final = x.final && y.final != negate;
    for (const ByteEdge& edge : x.edges) {
      int next = edge.first;  // the first byte not yet given a target
      for (const ByteEdge& other : y.edges) {
        budget.spend(1);
        const int first = std::max<int>(next, other.first);
        const int last = std::min(edge.last, other.last);
        if (first > last) continue;
        if (negate && first > next) {
          const int32_t to = intern(edge.to, kNone);
          out.states[at].edges.push_back({static_cast<uint8_t>(next), static_cast<uint8_t>(first - 1), to});
        }
        const int32_t to = intern(edge.to, other.to);
        out.states[at].edges.push_back({static_cast<uint8_t>(first), static_cast<uint8_t>(last), to});
        next = last + 1;
      }
      if (negate && next <= edge.last) {
        const int32_t to = intern(edge.to, kNone);
        out.states[at].edges.push_back({static_cast<uint8_t>(next), edge.last, to});
      }
      budget.spend(1);
    }
  }
  return out;
}

}  // namespace llamita::grammar
