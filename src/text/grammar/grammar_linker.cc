#include "text/grammar/grammar_linker.h"

#include <algorithm>
#include <deque>
#include <limits>
#include <utility>

#include "base/cat.h"
#include "llamita/error.h"

namespace llamita::grammar {

namespace {

constexpr int64_t kNever = int64_t{1} << 40;

}  // namespace

GrammarLinker::GrammarLinker(std::vector<Rule> rules, std::vector<Grammar::Call> calls, int root,
                             Budget& budget)
    : rules_(std::move(rules)),
      calls_(std::move(calls)),
      root_(root),
      budget_(budget),
      nullable_(rules_.size()) {
  for (size_t rule = 0; rule < rules_.size(); ++rule) {
    base_.push_back(rule_of_.size());
    rule_of_.insert(rule_of_.end(), rules_[rule].body.states.size(), rule);
  }
  need_.assign(rule_of_.size(), kNever);
}

const Dfa::State& GrammarLinker::state(size_t id) const {
  return rules_[rule_of_[id]].body.states[id - base_[rule_of_[id]]];
}

bool GrammarLinker::call_nullable(int32_t call) const {
  const Grammar::Call& c = calls_[size_t(call)];
  return c.min == 0 || nullable_[size_t(c.rule)];
}

// Which rules may be empty: states that reach the end by calls of such rules alone, to the fixed point.
void GrammarLinker::find_nullable() {
  std::vector<std::vector<size_t>> before(
      rule_of_.size());  // of a state: states with a call that leads to it
  std::vector<std::vector<size_t>> callers(rules_.size());
  std::vector<size_t> work;
  reaches_end_.assign(rule_of_.size(), false);
  for (size_t id = 0; id < rule_of_.size(); ++id) {
    for (const CallEdge& edge : state(id).calls) {
      before[base_[rule_of_[id]] + size_t(edge.to)].push_back(id);
      callers[size_t(calls_[size_t(edge.call)].rule)].push_back(id);
    }
    if (state(id).final) work.push_back(id);
  }
  const auto revisit = [&](const std::vector<size_t>& ids) {
    for (const size_t id : ids) {
      for (const CallEdge& edge : state(id).calls) {
        budget_.spend(1);
        if (reaches_end_[id] || !call_nullable(edge.call)) continue;
        if (reaches_end_[base_[rule_of_[id]] + size_t(edge.to)]) work.push_back(id);
      }
    }
  };
  while (!work.empty()) {
    const size_t id = work.back();
    work.pop_back();
    if (reaches_end_[id]) continue;
    reaches_end_[id] = true;
    revisit(before[id]);
    const size_t rule = rule_of_[id];
    if (id != base_[rule]) continue;
    nullable_[rule] = true;
    revisit(callers[rule]);
  }
}

// Something that may be empty, 500 times or more, is the same any number of times; at most 500 times would
// have to count empty ones.
void GrammarLinker::settle_repeats() {
  for (Grammar::Call& call : calls_) {
    if (!call.repeats() || !nullable_[size_t(call.rule)]) continue;
    if (call.max != kUnbounded) {
      throw Error(cat("the grammar repeats something that may be empty up to ", call.max,
                      " times: make what is repeated read at least one character"));
    }
    call.min = 0;
  }
}

int64_t GrammarLinker::through(const CallEdge& edge) const {
  const Grammar::Call& c = calls_[size_t(edge.call)];
  return c.min == 0 ? 0 : need_[base_[size_t(c.rule)]];
}

int64_t GrammarLinker::need_of(size_t id) const {
  const size_t base = base_[rule_of_[id]];
  const int64_t own = rules_[rule_of_[id]].nests ? 1 : 0;
  int64_t best = state(id).final ? own : kNever;
  for (const ByteEdge& edge : state(id).edges) best = std::min(best, need_[base + size_t(edge.to)]);
  for (const CallEdge& edge : state(id).calls) {
    best = std::min(best, std::max(need_[base + size_t(edge.to)], own + through(edge)));
  }
  return std::min(best, kNever);
}

// The least levels that the rest of a state's rule takes. Values only fall, from "never".
void GrammarLinker::find_needs() {
  std::vector<std::vector<size_t>> before(rule_of_.size());
  std::vector<std::vector<size_t>> callers(rules_.size());
  std::deque<size_t> work;
  for (size_t id = 0; id < rule_of_.size(); ++id) {
    const size_t base = base_[rule_of_[id]];
    for (const ByteEdge& edge : state(id).edges) before[base + size_t(edge.to)].push_back(id);
    for (const CallEdge& edge : state(id).calls) {
      before[base + size_t(edge.to)].push_back(id);
      callers[size_t(calls_[size_t(edge.call)].rule)].push_back(id);
    }
    if (state(id).final) work.push_back(id);
    budget_.spend(static_cast<int64_t>(state(id).edges.size() + state(id).calls.size()));
  }
  // States whose only way is a call that may be left out become ready with what follows.
  while (!work.empty()) {
    const size_t id = work.front();
    work.pop_front();
    budget_.spend(static_cast<int64_t>(state(id).edges.size() + state(id).calls.size()) + 1);
    const int64_t need = need_of(id);
    if (need >= need_[id]) continue;
    need_[id] = need;
    work.insert(work.end(), before[id].begin(), before[id].end());
    const size_t rule = rule_of_[id];
    if (id == base_[rule]) work.insert(work.end(), callers[rule].begin(), callers[rule].end());
  }
}

std::vector<int32_t> GrammarLinker::first_calls(size_t rule) const {
  const Dfa& body = rules_[rule].body;
  std::vector<bool> seen(body.states.size());
  std::vector<size_t> work = {0};
  std::vector<int32_t> out;
  while (!work.empty()) {
    const size_t at = work.back();
    work.pop_back();
    if (seen[at]) continue;
    seen[at] = true;
    for (const CallEdge& edge : body.states[at].calls) {
      budget_.spend(1);
      out.push_back(calls_[size_t(edge.call)].rule);
      if (call_nullable(edge.call)) work.push_back(size_t(edge.to));
    }
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

// Depth-first over "may begin with a call of": a way back to a rule on the way is left recursion.
void GrammarLinker::refuse_left_recursion() const {
  enum class Mark : uint8_t { fresh, open, done };
  std::vector<Mark> marks(rules_.size(), Mark::fresh);
  std::vector<std::pair<size_t, std::vector<int32_t>>> path;
  for (size_t first = 0; first < rules_.size(); ++first) {
    if (marks[first] != Mark::fresh) continue;
    marks[first] = Mark::open;
    path.emplace_back(first, first_calls(first));
    while (!path.empty()) {
      auto& [rule, left] = path.back();
      if (left.empty()) {
        marks[rule] = Mark::done;
        path.pop_back();
        continue;
      }
      const auto next = size_t(left.back());
      left.pop_back();
      if (marks[next] == Mark::open) {
        throw Error(
            cat("the grammar's rule '", rules_[next].name,
                "' refers to itself before it has read anything: let something come before the reference"));
      }
      if (marks[next] == Mark::done) continue;
      marks[next] = Mark::open;
      path.emplace_back(next, first_calls(next));
    }
  }
}

void GrammarLinker::write_classes(Grammar& out) const {
  bool border[257] = {};
  for (const ByteEdge& edge : out.edges_) border[edge.first] = border[edge.last + 1] = true;
  int32_t last = 0;
  for (size_t byte = 0; byte < 256; ++byte) {
    if (byte > 0 && border[byte]) ++last;
    out.byte_class_[byte] = static_cast<uint8_t>(last);
  }
  out.classes_ = last + 1;
}

void GrammarLinker::write(Grammar& out) const {
  for (size_t id = 0; id <= rule_of_.size(); ++id) {
    const auto first_edge = static_cast<int32_t>(out.edges_.size());
    const auto first_call = static_cast<int32_t>(out.calls_.size());
    if (id == rule_of_.size()) {
      out.states_.push_back({first_edge, first_call, 0, 0, false});
      break;
    }
    const auto base = base_[rule_of_[id]];
    const auto need =
        static_cast<int32_t>(std::min<int64_t>(need_[id], std::numeric_limits<int32_t>::max() / 2));
    out.states_.push_back(
        {first_edge, first_call, static_cast<int32_t>(rule_of_[id]), need, state(id).final});
    if (need_[id] == kNever) continue;
    out.max_need_ = std::max(out.max_need_, need);
    for (ByteEdge edge : state(id).edges) {
      edge.to += static_cast<int32_t>(base);
      if (need_[size_t(edge.to)] != kNever) out.edges_.push_back(edge);
    }
    for (CallEdge edge : state(id).calls) {
      edge.to += static_cast<int32_t>(base);
      if (need_[size_t(edge.to)] != kNever && through(edge) != kNever) out.calls_.push_back(edge);
    }
  }
}

std::shared_ptr<const Grammar> GrammarLinker::link() {
  find_nullable();
  settle_repeats();
  refuse_left_recursion();
  find_needs();
  const int64_t need = need_[base_[size_t(root_)]];
  if (need == kNever) throw Error("the grammar matches no text at all: its rules never come to an end");
  if (need > kMaxLevels) {
    throw Error(cat("the shortest text of the grammar nests ", need, " levels; at most ", kMaxLevels,
                    " are allowed"));
  }
  auto out = std::make_shared<Grammar>();
  write(*out);
  write_classes(*out);
  out->call_table_ = calls_;
  for (Grammar::Call& call : out->call_table_) {
    if (need_[base_[size_t(call.rule)]] == kNever) call.max = 0;  // reached only where it may be left out
  }
  for (size_t rule = 0; rule < rules_.size(); ++rule) {
    out->rules_.push_back({static_cast<int32_t>(base_[rule]), rules_[rule].nests});
  }
  out->root_ = root_;
  return out;
}

}  // namespace llamita::grammar
