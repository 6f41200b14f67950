// The run-time half of the pushdown automaton. A text leaves a set of stacks (more than one while the grammar
// is ambiguous so far); stacks share their lower frames, equal sets share one id, and the step from a set
// over a byte is computed once and then looked up. To the code above, this is a deterministic automaton whose
// states are made on demand. One thread at a time.
//
// Work is counted in steps, not in time, so that a grammar behaves alike on every machine: 1 is a look-up,
// a few ns. Once set_work() is used up every new step leads to kDead, and spent() stays true.
#pragma once

#include <bitset>
#include <cstdint>
#include <limits>
#include <span>
#include <unordered_map>
#include <vector>

#include "text/grammar/grammar.h"

namespace llamita::grammar {

// A set of numbers that is emptied often: open addressing, and clear() costs nothing however large it once
// was.
class NumberSet {
 public:
  NumberSet() : slots_(64) {}
  void clear() {
    size_ = 0;
    if (++round_ != 0) return;
    slots_.assign(slots_.size(), {});
    round_ = 1;
  }
  // False when it is there already.
  bool insert(uint64_t number);

 private:
  struct Slot {
    uint64_t number = 0;
    uint32_t round = 0;  // it is taken when this is round_
  };
  bool place(uint64_t number);
  std::vector<Slot> slots_;  // a power of two
  size_t size_ = 0;
  uint32_t round_ = 1;
};

class StackSets {
 public:
  // What lies below the top of a stack. state >= 0: where the rule above returns to. state < 0: the rule
  // above is a round of the repeating call ~state, and `count` rounds will be done when it returns (not
  // counted beyond `min` where there is no maximum).
  struct Frame {
    int32_t state;
    int32_t count;
    int32_t parent;
    int32_t level;  // rules that nest below here, this frame's included
    bool operator==(const Frame&) const = default;
  };
  // A stack: a state that can read a byte, on top of frame `parent`.
  struct Config {
    int32_t state;
    int32_t parent;
    bool operator==(const Config&) const = default;
  };
  using Bytes = std::bitset<256>;

  static constexpr int32_t kDead = 0;    // the set of no stacks
  static constexpr int32_t kBottom = 0;  // the lowest frame

  // `level`: what the bottom counts as nested already. Borrows the grammar.
  explicit StackSets(const Grammar& grammar, int32_t level = 0);

  // The set that starts in `state` on top of frame `parent`.
  int32_t enter(int32_t state, int32_t parent);
  // The set of these stacks, without what calls and returns lead to.
  int32_t only(std::span<const Config> configs);
  // The set after the rule above frame `parent` has come to its end.
  int32_t leave(int32_t parent);
  int32_t advance(int32_t set, uint8_t byte) {
    int32_t& next = steps_[size_t(set) * classes_ + grammar_->byte_class(byte)];
    return next >= 0 ? next : step(set, byte);
  }
  int32_t push(int32_t state, int32_t count, int32_t parent);

  // The text may end here: some stack has returned through the bottom.
  bool complete(int32_t set) const { return sets_[size_t(set)].complete; }
  std::span<const Config> configs(int32_t set) const {
    const Set& s = sets_[size_t(set)];
    return {configs_.data() + s.first, size_t(s.count)};
  }
  // Bytes that may come next.
  const Bytes& bytes(int32_t set);
  const Frame& frame(int32_t id) const { return frames_[size_t(id)]; }

  void set_work(int64_t work) { work_left_ = work; }
  int64_t work() const { return work_left_; }
  void spend(int64_t work) { work_left_ -= work; }
  bool spent() const { return work_left_ < 0; }

  size_t memory() const;  // bytes, about
  // Forgets everything but the sets in `live`, and gives those their new ids.
  void compact(std::span<int32_t> live);

 private:
  struct Set {
    size_t first;
    int32_t count;
    bool complete;
    int32_t bytes = -1;  // index into bytes_
    int32_t same_hash = -1;
  };
  struct Item {
    enum class Kind : uint8_t { state, leave, round } kind;
    int32_t a;  // state; round: the call
    int32_t b;  // state: parent; leave: the frame; round: the frame below the loop
    int32_t count = 0;
  };
  struct FrameHash {
    size_t operator()(const Frame& frame) const;
  };

  int32_t step(int32_t set, uint8_t byte);
  // Follows calls and returns from the items in work_ until every stack can read; the set of those.
  int32_t close();
  void visit_state(int32_t state, int32_t parent);
  void visit_leave(int32_t frame);
  void visit_round(int32_t call, int32_t done, int32_t below);
  void sort_found();
  int32_t intern();

  const Grammar* grammar_;
  size_t classes_;
  std::vector<Frame> frames_;
  std::unordered_map<Frame, int32_t, FrameHash> frame_ids_;
  std::vector<Config> configs_;
  std::vector<Set> sets_;
  std::unordered_map<uint64_t, int32_t> set_ids_;  // by hash, chained through same_hash
  std::vector<int32_t> steps_;                     // (sets, classes): next set, -1 unknown
  std::vector<Bytes> bytes_;
  // Scratch of close().
  std::vector<Item> work_;
  NumberSet seen_;
  std::vector<Config> found_;
  bool found_end_ = false;
  int64_t work_left_ = std::numeric_limits<int64_t>::max();
};

}  // namespace llamita::grammar
