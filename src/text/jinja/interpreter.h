// Walks the tree of a template and writes its output. One object serves one rendering.
#pragma once

#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/runtime.h"
#include "text/jinja/scope.h"

namespace llamita::jinja {

class Interpreter {
 public:
  Interpreter(std::vector<std::pair<std::string, Value>> variables, std::tm now);
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  // The output of the template. Fails as Jinja2 does, and when a budget is spent.
  Text run(const Body& body);
  // The line of the node that was evaluated last: where a failure happened.
  int line() const { return line_; }

 private:
  friend class Macro;
  enum class Flow { normal, stop, next };
  using ScopePtr = std::shared_ptr<Scope>;
  class Level;     // one more level of evaluation
  class InScope;   // another scope for a while
  class Captured;  // output into a text of its own

  Flow exec(const Body& body);
  Flow exec(const Stmt& stmt);
  void exec_output(const Stmt& stmt);
  void exec_assign_body(const Stmt& stmt);
  Flow exec_branch(const Stmt& stmt);
  Flow exec_loop(const Stmt& stmt, const Value& items, const ScopePtr& outside, int64_t depth0);
  Values loop_items(const Stmt& stmt, const Value& items, const ScopePtr& outside);
  Flow exec_with(const Stmt& stmt);
  void exec_call_block(const Stmt& stmt);
  void exec_filter_body(const Stmt& stmt);
  // Output of a body in a scope of its own.
  Text capture(const Body& body);
  Value call_macro(const Stmt& stmt, const ScopePtr& scope, const std::string& name, const CallArgs& args);
  void bind_parameters(const Stmt& stmt, const std::string& name, const CallArgs& args);
  Value make_macro(const Stmt& stmt, std::string name);

  void assign(const Expr& target, const Value& value);
  void write(const Text& text);

  Value eval(const Expr& expr);
  Value eval_node(const Expr& expr);
  Value eval_name(const Expr& expr);
  Value eval_dict(const Expr& expr);
  Value eval_compare(const Expr& expr);
  bool compare(std::string_view op, const Value& a, const Value& b);
  Value eval_concat(const Expr& expr);
  Value eval_conditional(const Expr& expr);
  Value eval_slice(const Expr& expr);
  Values eval_all(const std::vector<ExprPtr>& exprs);
  CallArgs eval_arguments(const Expr& expr);
  // A filter chain whose innermost filter takes `input` when it has no operand of its own.
  Value eval_filter(const Expr& expr, const Value* input);

  Runtime runtime_;
  ScopePtr scope_;
  Text* out_ = nullptr;
  int depth_ = 0;
  int line_ = 1;
};

}  // namespace llamita::jinja
