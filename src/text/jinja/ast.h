// The syntax tree of a template. Two plain node types: the comments say which fields each kind uses.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace llamita::jinja {

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

struct Expr {
  enum class Kind {
    literal,      // value
    name,         // name
    list,         // children
    tuple,        // children
    dict,         // children: key, value, key, value, …
    negative,     // children[0]
    positive,     // children[0]
    logical_not,  // children[0]
    logical_and,  // children[0], children[1]
    logical_or,   // children[0], children[1]
    compare,      // children: a, b, c …; ops: one fewer ("in" and "not in" too)
    binary,       // children[0] name children[1]
    concat,       // children
    conditional,  // children: test, then, else (may be null)
    attribute,    // children[0] . name
    item,         // children[0] [ children[1] ]
    slice,        // children[0] [ children[1] : children[2] : children[3] ], each but the first may be null
    call,         // children[0] ( arguments )
    filter,       // children[0] | name ( arguments ); children[0] is null at the head of a filter block
    test,         // children[0] is name ( arguments )
  };

  Kind kind;
  int line = 0;
  int depth = 1;
  std::string name;
  Value value;
  std::vector<ExprPtr> children;
  std::vector<std::string> ops;
  // Arguments of call, filter and test.
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> keyword;
  ExprPtr star;         // *args
  ExprPtr double_star;  // **kwargs
};

struct Stmt;
using StmtPtr = std::unique_ptr<Stmt>;
using Body = std::vector<StmtPtr>;

struct Stmt {
  enum class Kind {
    data,         // text
    output,       // exprs
    assign,       // target = exprs[0]
    assign_body,  // target, optional filter chain in exprs[0], body
    branch,       // exprs: one test a branch; bodies: one each, and the else body last
    loop,         // for target in exprs[0] if exprs[1] (may be null): bodies[0], else bodies[1]; recursive
    with,         // targets and exprs in pairs, bodies[0]
    macro,        // text (name), parameters, bodies[0], uses_…
    call_block,   // exprs[0] a call; parameters, bodies[0], uses_…
    filter_body,  // exprs[0] the filter chain, bodies[0]
    scope,        // bodies[0] in a scope of its own: {% generation %}
    stop,         // break
    next,         // continue
  };
  struct Parameter {
    std::string name;
    ExprPtr fallback;  // null: none
  };

  Kind kind;
  int line = 0;
  int depth = 1;
  std::string text;
  std::vector<ExprPtr> targets;
  std::vector<ExprPtr> exprs;
  std::vector<Body> bodies;
  std::vector<Parameter> parameters;
  bool recursive = false;
  bool uses_caller = false;
  bool uses_varargs = false;
  bool uses_kwargs = false;
};

}  // namespace llamita::jinja
