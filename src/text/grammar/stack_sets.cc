#include "text/grammar/stack_sets.h"

#include <algorithm>
#include <map>
#include <utility>

namespace llamita::grammar {

namespace {

// Stacks kept of one text. More come up only in grammars that read one text in exponentially many ways; what
// is dropped there narrows what may be written and never allows anything wrong, because each stack that is
// kept can reach the end by itself.
constexpr size_t kMaxConfigs = 256;

// What things cost beside a look-up, about.
constexpr int64_t kItemWork = 8;    // a call or return that is followed
constexpr int64_t kConfigWork = 2;  // a stack that is asked for its edge
constexpr int64_t kSetWork = 8;     // a set that is new, beside its row of steps

uint64_t mixed(uint64_t a, uint64_t b) {
  uint64_t x = (a ^ 0x9E3779B97F4A7C15u) * 0xBF58476D1CE4E5B9u ^ b;
  x = (x ^ (x >> 29)) * 0x94D049BB133111EBu;
  return x ^ (x >> 32);
}

uint64_t pair_key(int32_t a, int32_t b) {
  return uint64_t{static_cast<uint32_t>(a)} << 32 | static_cast<uint32_t>(b);
}

}  // namespace

bool NumberSet::place(uint64_t number) {
  for (uint64_t at = mixed(number, 0);; ++at) {
    Slot& slot = slots_[at & (slots_.size() - 1)];
    if (slot.round == round_ && slot.number == number) return false;
    if (slot.round == round_) continue;
    slot = {number, round_};
    return true;
  }
}

bool NumberSet::insert(uint64_t number) {
  if (2 * (size_ + 1) > slots_.size()) {
    const std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(2 * slots_.size()));
    for (const Slot& slot : old) {
      if (slot.round == round_) place(slot.number);
    }
  }
  const bool fresh = place(number);
  size_ += fresh ? 1 : 0;
  return fresh;
}

size_t StackSets::FrameHash::operator()(const Frame& frame) const {
  return mixed(pair_key(frame.state, frame.count), static_cast<uint32_t>(frame.parent));
}

StackSets::StackSets(const Grammar& grammar, int32_t level)
    : grammar_(&grammar), classes_(size_t(grammar.classes())) {
  frames_.push_back({0, 0, -1, level});
  intern();  // kDead
}

int32_t StackSets::push(int32_t state, int32_t count, int32_t parent) {
  const bool nests = state >= 0 && grammar_->nests(grammar_->state(state).rule);
  const Frame frame = {state, count, parent, frames_[size_t(parent)].level + (nests ? 1 : 0)};
  const auto [place, fresh] = frame_ids_.try_emplace(frame, static_cast<int32_t>(frames_.size()));
  if (fresh) frames_.push_back(frame);
  return place->second;
}

int32_t StackSets::enter(int32_t state, int32_t parent) {
  work_.push_back({Item::Kind::state, state, parent});
  return close();
}

int32_t StackSets::only(std::span<const Config> configs) {
  found_.assign(configs.begin(), configs.end());
  found_end_ = false;
  sort_found();
  return intern();
}

int32_t StackSets::leave(int32_t parent) {
  work_.push_back({Item::Kind::leave, 0, parent});
  return close();
}

int32_t StackSets::step(int32_t set, uint8_t byte) {
  const Set from = sets_[size_t(set)];
  spend(kConfigWork * from.count);
  // Backwards, because close() works on the last first.
  for (size_t i = size_t(from.count); i-- > 0;) {
    const Config config = configs_[from.first + i];
    const auto edges = grammar_->edges(config.state);
    const auto edge =
        std::partition_point(edges.begin(), edges.end(), [&](const ByteEdge& e) { return e.last < byte; });
    if (edge != edges.end() && edge->first <= byte)
      work_.push_back({Item::Kind::state, edge->to, config.parent});
  }
  const int32_t next = work_.empty() ? kDead : close();
  if (spent()) return kDead;  // and not for good: the step is not known
  steps_[size_t(set) * classes_ + grammar_->byte_class(byte)] = next;
  return next;
}

int32_t StackSets::close() {
  seen_.clear();
  found_.clear();
  found_end_ = false;
  while (!work_.empty()) {
    spend(kItemWork);
    if (spent()) {
      work_.clear();
      return kDead;
    }
    const Item item = work_.back();
    work_.pop_back();
    switch (item.kind) {
      case Item::Kind::state: visit_state(item.a, item.b); break;
      case Item::Kind::leave: visit_leave(item.b); break;
      case Item::Kind::round: visit_round(item.a, item.count, item.b); break;
    }
    if (found_.size() >= kMaxConfigs) work_.clear();
  }
  sort_found();
  return intern();
}

void StackSets::sort_found() {
  std::sort(found_.begin(), found_.end(), [](const Config& x, const Config& y) {
    return pair_key(x.state, x.parent) < pair_key(y.state, y.parent);
  });
}

void StackSets::visit_state(int32_t state, int32_t parent) {
  const Grammar::State& info = grammar_->state(state);
  if (frames_[size_t(parent)].level + info.need > kMaxLevels) return;  // could not end within the levels
  if (!seen_.insert(pair_key(state, parent))) return;
  if (!grammar_->edges(state).empty()) found_.push_back({state, parent});
  if (info.final) work_.push_back({Item::Kind::leave, 0, parent});
  for (const CallEdge& edge : grammar_->calls(state)) {
    const int32_t below = grammar_->only_returns(edge.to) ? parent : push(edge.to, 0, parent);
    const Grammar::Call& call = grammar_->call(edge.call);
    if (call.repeats()) {
      work_.push_back({Item::Kind::round, edge.call, below, 0});
    } else {
      work_.push_back({Item::Kind::state, grammar_->start(call.rule), below});
    }
  }
}

void StackSets::visit_leave(int32_t id) {
  if (id == kBottom) {
    found_end_ = true;
    return;
  }
  const Frame frame = frames_[size_t(id)];
  if (frame.state >= 0) {
    work_.push_back({Item::Kind::state, frame.state, frame.parent});
  } else {
    work_.push_back({Item::Kind::round, ~frame.state, frame.parent, frame.count});
  }
}

void StackSets::visit_round(int32_t id, int32_t done, int32_t below) {
  const Grammar::Call& call = grammar_->call(id);
  if (done >= call.min) work_.push_back({Item::Kind::leave, 0, below});
  if (done >= call.max) return;
  const int32_t next = call.max == kUnbounded ? std::min(done + 1, call.min) : done + 1;
  work_.push_back({Item::Kind::state, grammar_->start(call.rule), push(~id, next, below)});
}

int32_t StackSets::intern() {
  uint64_t hash = found_end_ ? 1 : 0;
  for (const Config& config : found_) hash = mixed(hash, pair_key(config.state, config.parent));
  const auto [place, fresh] = set_ids_.try_emplace(hash, static_cast<int32_t>(sets_.size()));
  const int32_t chain = fresh ? -1 : place->second;
  for (int32_t id = chain; id >= 0; id = sets_[size_t(id)].same_hash) {
    const auto same = configs(id);
    if (complete(id) == found_end_ && std::equal(same.begin(), same.end(), found_.begin(), found_.end()))
      return id;
  }
  spend(kSetWork + static_cast<int64_t>(classes_) / 8);
  const auto id = static_cast<int32_t>(sets_.size());
  sets_.push_back({configs_.size(), static_cast<int32_t>(found_.size()), found_end_, -1, chain});
  place->second = id;
  configs_.insert(configs_.end(), found_.begin(), found_.end());
  steps_.insert(steps_.end(), classes_, found_.empty() ? kDead : -1);
  return id;
}

const StackSets::Bytes& StackSets::bytes(int32_t set) {
  if (sets_[size_t(set)].bytes < 0) {
    Bytes bytes;
    for (const Config& config : configs(set)) {
      const int32_t level = frame(config.parent).level;
      for (const ByteEdge& edge : grammar_->edges(config.state)) {
        spend(kConfigWork + (edge.last - edge.first) / 8);
        if (level + grammar_->state(edge.to).need > kMaxLevels) continue;
        for (size_t byte = edge.first; byte <= edge.last; ++byte) bytes.set(byte);
      }
    }
    sets_[size_t(set)].bytes = static_cast<int32_t>(bytes_.size());
    bytes_.push_back(bytes);
  }
  return bytes_[size_t(sets_[size_t(set)].bytes)];
}

size_t StackSets::memory() const {
  constexpr size_t kMapNode = 48;  // a node of unordered_map, its bucket included
  return frames_.size() * (2 * sizeof(Frame) + kMapNode) + configs_.size() * sizeof(Config) +
         sets_.size() * (sizeof(Set) + kMapNode) + steps_.size() * sizeof(int32_t) +
         bytes_.size() * sizeof(Bytes);
}

void StackSets::compact(std::span<int32_t> live) {
  StackSets fresh(*grammar_, frames_[kBottom].level);
  std::map<int32_t, int32_t> frames = {{kBottom, kBottom}};
  std::map<int32_t, int32_t> sets;
  const auto move_frame = [&](int32_t id) {
    std::vector<int32_t> path;  // frames that are not there yet, the top one first
    for (; !frames.contains(id); id = frames_[size_t(id)].parent) path.push_back(id);
    int32_t made = frames[id];
    for (size_t i = path.size(); i-- > 0;) {
      const Frame& frame = frames_[size_t(path[i])];
      made = frames[path[i]] = fresh.push(frame.state, frame.count, made);
      spend(kItemWork);
    }
    return made;
  };
  for (int32_t& set : live) {
    const auto [place, first_time] = sets.try_emplace(set, kDead);
    if (first_time) {
      fresh.found_.clear();
      spend(kItemWork * (1 + static_cast<int64_t>(configs(set).size())));
      for (const Config& config : configs(set))
        fresh.found_.push_back({config.state, move_frame(config.parent)});
      fresh.found_end_ = complete(set);
      fresh.sort_found();
      place->second = fresh.intern();
    }
    set = place->second;
  }
  fresh.work_left_ = work_left_;
  *this = std::move(fresh);
}

}  // namespace llamita::grammar
