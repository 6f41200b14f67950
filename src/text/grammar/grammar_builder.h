// Builds a Grammar from expressions: literals, characters, sequences, choices, repeats, calls of rules. The
// front ends (gbnf.h, json_schema.h) speak to this and to nothing below.
//
//   GrammarBuilder builder;
//   const int list = builder.declare("list", true);
//   builder.define(list, builder.sequence({builder.bytes("["), builder.repeat(builder.call(list), 0, 3),
//   builder.bytes("]")})); std::shared_ptr<const Grammar> grammar = builder.build(list);
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "text/grammar/code_points.h"
#include "text/grammar/grammar.h"

namespace llamita::grammar {

class GrammarBuilder {
 public:
  using Expr = int32_t;
  // A network of expressions: what lies on the ways from node 0 to node `nodes` - 1.
  struct Link {
    int32_t from;
    int32_t to;
    Expr expr;
  };

  Expr empty();  // the empty text
  Expr bytes(std::string_view text);
  Expr characters(CodePoints set);
  Expr sequence(std::vector<Expr> parts);
  Expr any_of(std::vector<Expr> options);  // none: nothing matches
  Expr repeat(Expr expr, int32_t min, int32_t max);
  Expr optional(Expr expr) { return repeat(expr, 0, 1); }
  Expr call(int rule);
  Expr network(int32_t nodes, std::vector<Link> links);
  // Of expressions without calls.
  Expr both(Expr a, Expr b);
  Expr except(Expr a, Expr b);

  // `nests`: counts against kMaxLevels while something stands inside it.
  int declare(std::string name, bool nests);
  void define(int rule, Expr expr);
  bool defined(int rule) const { return rules_[size_t(rule)].body >= 0; }

  // Throws Error for a grammar that is too large, recurses without reading anything (left recursion), or has
  // no text at all. Every rule must be defined. Call once.
  std::shared_ptr<const Grammar> build(int root);

 private:
  enum class Kind : uint8_t {
    empty,
    bytes,
    characters,
    sequence,
    any_of,
    repeat,
    call,
    network,
    both,
    except
  };
  struct Node {
    Kind kind;
    int32_t min = 0, max = 0;  // repeat; call: min is the rule; network: min counts nodes
    int32_t depth = 1;
    int64_t size = 1;  // states it takes, about
    std::vector<Expr> parts;
    std::vector<Link> links;
    std::string text;
    CodePoints set;
  };
  struct Rule {
    std::string name;
    bool nests;
    Expr body = -1;
  };

  Expr add(Node node);
  int32_t call_id(int32_t rule, int32_t min, int32_t max);
  int32_t add_state(Nfa& nfa);
  Dfa compile(Expr expr, bool flat);
  // Adds `expr` between two states. `flat`: no calls may appear, repeats are written out.
  void link(Nfa& nfa, Expr expr, int32_t from, int32_t to, bool flat);
  void link_repeat(Nfa& nfa, Expr expr, int32_t from, int32_t to, bool flat);
  void link_characters(Nfa& nfa, const CodePoints& set, int32_t from, int32_t to);
  void link_automaton(Nfa& nfa, const Dfa& dfa, int32_t from, int32_t to);

  std::vector<Node> nodes_;
  std::vector<Rule> rules_;
  std::vector<Grammar::Call> calls_;
  std::map<std::tuple<int32_t, int32_t, int32_t>, int32_t> call_ids_;
  std::map<Expr, int32_t> repeated_;  // expression -> the rule made to count it
  Budget budget_{6'000'000};          // less than two seconds
  int64_t states_ = 0;
};

}  // namespace llamita::grammar
