#include "text/grammar/grammar_builder.h"

#include <algorithm>
#include <utility>

#include "base/cat.h"
#include "base/check.h"
#include "llamita/error.h"
#include "text/grammar/grammar_linker.h"

namespace llamita::grammar {

namespace {

constexpr int32_t kMaxExpressionDepth = 1024;  // the recursion of link()
constexpr size_t kMaxRules = 16384;
constexpr size_t kMaxExpressions = 1 << 20;
constexpr int64_t kMaxStates = 1 << 17;
// A repeat that takes more states than this when written out is counted on the stack instead.
constexpr int64_t kWrittenOut = 128;
constexpr int64_t kHuge = int64_t{1} << 40;

}  // namespace

GrammarBuilder::Expr GrammarBuilder::add(Node node) {
  for (const Expr part : node.parts) node.depth = std::max(node.depth, nodes_[size_t(part)].depth + 1);
  for (const Link& l : node.links) node.depth = std::max(node.depth, nodes_[size_t(l.expr)].depth + 1);
  if (node.depth > kMaxExpressionDepth) {
    throw Error(
        cat("the grammar nests expressions deeper than ", kMaxExpressionDepth, ": move some into rules"));
  }
  if (nodes_.size() >= kMaxExpressions) {
    throw Error(cat("the grammar has more than ", kMaxExpressions, " expressions: make it smaller"));
  }
  node.size = std::min(node.size, kHuge);
  nodes_.push_back(std::move(node));
  return static_cast<Expr>(nodes_.size()) - 1;
}

GrammarBuilder::Expr GrammarBuilder::empty() { return add({.kind = Kind::empty}); }

GrammarBuilder::Expr GrammarBuilder::bytes(std::string_view text) {
  return add({.kind = Kind::bytes, .size = 1 + static_cast<int64_t>(text.size()), .text = std::string(text)});
}

GrammarBuilder::Expr GrammarBuilder::characters(CodePoints set) {
  Node node = {.kind = Kind::characters, .set = normalized(std::move(set))};
  // A byte each for ASCII; elsewhere about two states inside for each range.
  for (const auto range : node.set) node.size += range.last < 0x80 ? 0 : 2;
  return add(std::move(node));
}

GrammarBuilder::Expr GrammarBuilder::sequence(std::vector<Expr> parts) {
  if (parts.size() == 1) return parts[0];
  Node node = {.kind = Kind::sequence, .parts = std::move(parts)};
  for (const Expr part : node.parts) node.size += nodes_[size_t(part)].size;
  return add(std::move(node));
}

GrammarBuilder::Expr GrammarBuilder::any_of(std::vector<Expr> options) {
  if (options.size() == 1) return options[0];
  Node node = {.kind = Kind::any_of, .parts = std::move(options)};
  for (const Expr part : node.parts) node.size += nodes_[size_t(part)].size;
  return add(std::move(node));
}

GrammarBuilder::Expr GrammarBuilder::repeat(Expr expr, int32_t min, int32_t max) {
  LLAMITA_CHECK(0 <= min && min <= max);
  if (max == 0) return empty();
  if (min == 1 && max == 1) return expr;
  const Node& inner = nodes_[size_t(expr)];
  if (inner.kind == Kind::repeat && inner.min <= 1 && inner.max == kUnbounded && min <= 1) {
    // (e+)+ is e+; written out as it stands, each level would double the states.
    return inner.min == 1 && min == 1 ? expr : repeat(inner.parts[0], 0, kUnbounded);
  }
  Node node = {.kind = Kind::repeat, .min = min, .max = max, .parts = {expr}};
  const int64_t times = max == kUnbounded ? min + int64_t{1} : max;
  const int64_t written = times * nodes_[size_t(expr)].size;
  node.size = written > kWrittenOut ? 2 : written + 1;
  return add(std::move(node));
}

GrammarBuilder::Expr GrammarBuilder::call(int rule) {
  LLAMITA_CHECK(rule >= 0 && size_t(rule) < rules_.size());
  return add({.kind = Kind::call, .min = rule});
}

GrammarBuilder::Expr GrammarBuilder::network(int32_t nodes, std::vector<Link> links) {
  Node node = {.kind = Kind::network, .min = nodes, .links = std::move(links)};
  for (const Link& l : node.links) node.size += nodes_[size_t(l.expr)].size;
  return add(std::move(node));
}

GrammarBuilder::Expr GrammarBuilder::both(Expr a, Expr b) {
  return add({.kind = Kind::both, .parts = {a, b}});
}
GrammarBuilder::Expr GrammarBuilder::except(Expr a, Expr b) {
  return add({.kind = Kind::except, .parts = {a, b}});
}

int GrammarBuilder::declare(std::string name, bool nests) {
  if (rules_.size() >= kMaxRules)
    throw Error(cat("the grammar has more than ", kMaxRules, " rules: make it smaller"));
  rules_.push_back({std::move(name), nests});
  return static_cast<int>(rules_.size()) - 1;
}

void GrammarBuilder::define(int rule, Expr expr) {
  LLAMITA_CHECK(!defined(rule), rules_[size_t(rule)].name, " is defined twice");
  rules_[size_t(rule)].body = expr;
}

int32_t GrammarBuilder::call_id(int32_t rule, int32_t min, int32_t max) {
  const auto [place, fresh] = call_ids_.try_emplace({rule, min, max}, static_cast<int32_t>(calls_.size()));
  if (fresh) calls_.push_back({rule, min, max});
  return place->second;
}

int32_t GrammarBuilder::add_state(Nfa& nfa) {
  budget_.spend(16);  // a state takes memory, not only time
  return nfa.add();
}

Dfa GrammarBuilder::compile(Expr expr, bool flat) {
  Nfa nfa;
  const int32_t start = add_state(nfa);
  const int32_t end = add_state(nfa);
  link(nfa, expr, start, end, flat);
  return determinize(nfa, start, end, budget_);
}

void GrammarBuilder::link_characters(Nfa& nfa, const CodePoints& set, int32_t from, int32_t to) {
  // Sequences that begin with the same bytes share their states, which keeps the subsets small.
  std::map<std::tuple<int32_t, uint8_t, uint8_t>, int32_t> shared;
  for (const ByteSequence& sequence : utf8_sequences(set)) {
    int32_t at = from;
    for (int i = 0; i < sequence.length; ++i) {
      budget_.spend(1);
      const auto [first, last] = sequence.bytes[i];
      if (i == sequence.length - 1) {
        nfa.states[size_t(at)].edges.push_back({first, last, to});
        break;
      }
      const auto [place, fresh] = shared.try_emplace({at, first, last}, 0);
      if (fresh) {
        place->second = add_state(nfa);
        nfa.states[size_t(at)].edges.push_back({first, last, place->second});
      }
      at = place->second;
    }
  }
}

void GrammarBuilder::link_automaton(Nfa& nfa, const Dfa& dfa, int32_t from, int32_t to) {
  const auto base = static_cast<int32_t>(nfa.states.size());
  for (const Dfa::State& state : dfa.states) {
    const int32_t id = add_state(nfa);
    for (const ByteEdge& edge : state.edges)
      nfa.states[size_t(id)].edges.push_back({edge.first, edge.last, base + edge.to});
    if (state.final) nfa.states[size_t(id)].empty.push_back(to);
    budget_.spend(1 + static_cast<int64_t>(state.edges.size()));
  }
  nfa.states[size_t(from)].empty.push_back(base);
}

void GrammarBuilder::link_repeat(Nfa& nfa, Expr expr, int32_t from, int32_t to, bool flat) {
  const Node& node = nodes_[size_t(expr)];
  const Expr body = node.parts[0];
  const auto [min, max] = std::pair(node.min, node.max);
  const int64_t times = max == kUnbounded ? min + int64_t{1} : max;
  if (!flat && times > 1 && times * nodes_[size_t(body)].size > kWrittenOut &&
      (min > 1 || max != kUnbounded)) {
    const auto [place, fresh] = repeated_.try_emplace(body, 0);
    if (fresh) {
      place->second =
          nodes_[size_t(body)].kind == Kind::call ? nodes_[size_t(body)].min : declare("repeated", false);
      if (nodes_[size_t(body)].kind != Kind::call) define(place->second, body);
    }
    nfa.states[size_t(from)].calls.push_back({call_id(place->second, min, max), to});
    return;
  }
  int32_t at = add_state(nfa);
  nfa.states[size_t(from)].empty.push_back(at);
  const int32_t written = max == kUnbounded ? min : max;
  for (int32_t i = 0; i < written; ++i) {
    if (i >= min) nfa.states[size_t(at)].empty.push_back(to);
    const int32_t next = add_state(nfa);
    link(nfa, body, at, next, flat);
    at = next;
  }
  if (max == kUnbounded) {
    const int32_t hub =
        add_state(nfa);  // a node of its own, so that the loop cannot run back into what is before
    nfa.states[size_t(at)].empty.push_back(hub);
    link(nfa, body, hub, hub, flat);
    at = hub;
  }
  nfa.states[size_t(at)].empty.push_back(to);
}

void GrammarBuilder::link(Nfa& nfa, Expr expr, int32_t from, int32_t to, bool flat) {
  budget_.spend(4);
  const Node& node = nodes_[size_t(expr)];  // nodes_ does not grow while compiling
  switch (node.kind) {
    case Kind::empty: nfa.states[size_t(from)].empty.push_back(to); return;
    case Kind::bytes:
    case Kind::sequence: {
      const bool text = node.kind == Kind::bytes;
      const size_t count = text ? node.text.size() : node.parts.size();
      if (count == 0) nfa.states[size_t(from)].empty.push_back(to);
      for (size_t i = 0; i < count; ++i) {
        const int32_t next = i + 1 == count ? to : add_state(nfa);
        if (text) {
          const auto byte = static_cast<uint8_t>(node.text[i]);
          nfa.states[size_t(from)].edges.push_back({byte, byte, next});
          budget_.spend(1);
        } else {
          link(nfa, node.parts[i], from, next, flat);
        }
        from = next;
      }
      return;
    }
    case Kind::characters: link_characters(nfa, node.set, from, to); return;
    case Kind::any_of:
      for (const Expr part : node.parts) link(nfa, part, from, to, flat);
      return;
    case Kind::repeat: link_repeat(nfa, expr, from, to, flat); return;
    case Kind::call:
      LLAMITA_CHECK(!flat, "both() and except() are for expressions without calls");
      nfa.states[size_t(from)].calls.push_back({call_id(node.min, 1, 1), to});
      return;
    case Kind::network: {
      const auto base = static_cast<int32_t>(nfa.states.size());
      for (int32_t i = 0; i < node.min; ++i) add_state(nfa);
      for (const Link& l : node.links) link(nfa, l.expr, base + l.from, base + l.to, flat);
      nfa.states[size_t(from)].empty.push_back(base);
      nfa.states[size_t(base + node.min - 1)].empty.push_back(to);
      return;
    }
    case Kind::both:
    case Kind::except: {
      const Dfa a = compile(node.parts[0], true);
      const Dfa b = compile(node.parts[1], true);
      link_automaton(nfa, product(a, b, node.kind == Kind::except, budget_), from, to);
      return;
    }
  }
}

std::shared_ptr<const Grammar> GrammarBuilder::build(int root) {
  std::vector<GrammarLinker::Rule> compiled;
  for (size_t i = 0; i < rules_.size(); ++i) {  // repeats declare more of them on the way
    LLAMITA_CHECK(defined(static_cast<int>(i)), rules_[i].name, " is not defined");
    compiled.push_back({compile(rules_[i].body, false), rules_[i].nests, rules_[i].name});
    states_ += static_cast<int64_t>(compiled.back().body.states.size());
    if (states_ > kMaxStates) {
      throw Error(cat("the grammar compiles to more than ", kMaxStates, " states: make it smaller"));
    }
  }
  return GrammarLinker(std::move(compiled), calls_, root, budget_).link();
}

}  // namespace llamita::grammar
