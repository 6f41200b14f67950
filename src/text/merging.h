// The merge loop of byte-pair encoding: a linked list of symbols and a heap of the pairs that may merge, so
// that n symbols cost O(n log n) however long the word is. The lowest rank merges first, the leftmost of
// equals.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace llamita::merging {

inline constexpr uint32_t kNone = UINT32_MAX;

struct Symbol {
  int32_t id;       // -1: no token has this spelling (yet)
  uint32_t begin;   // bytes of the word
  uint32_t length;  // 0: merged into the symbol before it
  uint32_t previous;
  uint32_t next;
};

struct Merge {
  uint32_t rank;
  int32_t id;  // of the merged symbol
};

struct Candidate {
  uint32_t rank;
  uint32_t left;
  int32_t id;

  // For a heap with the first candidate on top.
  bool operator<(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : left > other.left;
  }
};

struct Scratch {
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;

  void clear() {
    symbols.clear();
    heap.clear();
  }
  void add(int32_t id, size_t begin, size_t length) {
    const auto at = static_cast<uint32_t>(symbols.size());
    symbols.push_back({id, static_cast<uint32_t>(begin), static_cast<uint32_t>(length), at - 1, at + 1});
  }
};

// Merges scratch.symbols until no pair can. `find(left, right, merge)` says whether two neighbours merge, and
// into what. What is left is the list from symbols[0] along `next`.
template <class Find>
void merge_all(Scratch& scratch, const Find& find) {
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  if (symbols.empty()) return;
  symbols.front().previous = kNone;
  symbols.back().next = kNone;
  Merge merge{};
  for (uint32_t i = 0; i + 1 < symbols.size(); ++i) {
    if (find(symbols[i], symbols[i + 1], merge)) heap.push_back({merge.rank, i, merge.id});
  }
  std::make_heap(heap.begin(), heap.end());
  const auto propose = [&](uint32_t left, uint32_t right) {
    if (left == kNone || right == kNone || !find(symbols[left], symbols[right], merge)) return;
    heap.push_back({merge.rank, left, merge.id});
    std::push_heap(heap.begin(), heap.end());
  };
  while (!heap.empty()) {
    const Candidate top = heap.front();
    std::pop_heap(heap.begin(), heap.end());
    heap.pop_back();
    Symbol& left = symbols[top.left];
    if (left.length == 0 || left.next == kNone) continue;
    Symbol& right = symbols[left.next];
    // The pair may have changed since it was proposed.
    if (!find(left, right, merge) || merge.id != top.id) continue;
    left.id = top.id;
    left.length += right.length;
    right.length = 0;
    left.next = right.next;
    if (left.next != kNone) symbols[left.next].previous = top.left;
    propose(left.previous, top.left);
    propose(top.left, left.next);
  }
}

}  // namespace llamita::merging
