// The expression half of the parser: precedence climbing by one function a level, lowest first. Bracket depth
// and tree depth are bounded, so neither parsing nor evaluating nor freeing a tree can exhaust the stack.
#pragma once

#include <string_view>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/token.h"

namespace llamita::jinja {

class ExpressionParser {
 public:
  explicit ExpressionParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

 protected:
  // Which special names a macro's body mentions.
  struct Mentions {
    bool caller = false, varargs = false, kwargs = false;
  };
  // One more level of brackets or blocks, for the lifetime of this object.
  class Nesting {
   public:
    explicit Nesting(ExpressionParser& parser);
    ~Nesting() { --parser_.nesting_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

   private:
    ExpressionParser& parser_;
  };

  const Token& now() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
  void skip() {
    if (at_ + 1 < tokens_.size()) ++at_;
  }
  bool is_op(std::string_view op) const { return now().kind == Token::Kind::op && now().text == op; }
  bool is_name(std::string_view name) const { return now().kind == Token::Kind::name && now().text == name; }
  bool skip_op(std::string_view op);
  bool skip_name(std::string_view name);
  void expect_op(std::string_view op);
  std::string expect_any_name();
  [[noreturn]] void fail_now(std::string_view message) const;
  [[noreturn]] void fail_unexpected(std::string_view wanted) const;

  ExprPtr parse_expression();
  // What stands before "if" in places where a conditional is not allowed.
  ExprPtr parse_or();
  // One expression, or several with commas as a tuple. `stop` is a name that ends the tuple.
  ExprPtr parse_tuple(bool conditional, std::string_view stop, bool in_brackets);
  ExprPtr parse_target(std::string_view stop, bool namespaces);
  ExprPtr parse_single_target();
  ExprPtr parse_filters(ExprPtr input, bool first_without_bar);

  ExprPtr make(Expr::Kind kind, int line, std::string name = {}) const;
  // Computes and checks the depth; every node passes through here when its parts are complete.
  ExprPtr done(ExprPtr node) const;

  std::vector<Mentions> macros_;  // one entry for each macro or call block that is open

 private:
  ExprPtr parse_conditional();
  ExprPtr parse_and();
  ExprPtr parse_not();
  ExprPtr parse_compare();
  ExprPtr parse_sum();
  ExprPtr parse_concat();
  ExprPtr parse_product();
  ExprPtr parse_power();
  ExprPtr parse_unary(bool with_filters);
  ExprPtr parse_primary();
  ExprPtr parse_list();
  ExprPtr parse_dict();
  ExprPtr parse_postfix(ExprPtr node);
  ExprPtr parse_filters_and_tests(ExprPtr node);
  ExprPtr parse_attribute(ExprPtr node);
  ExprPtr parse_subscript(ExprPtr node);
  ExprPtr parse_subscript_part(ExprPtr node);
  ExprPtr parse_call(ExprPtr node);
  ExprPtr parse_test(ExprPtr node);
  void parse_arguments(Expr& node);
  ExprPtr binary(int line, std::string op, ExprPtr a, ExprPtr b) const;
  bool at_tuple_end(std::string_view stop) const;
  void check_target(const Expr& node) const;

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int nesting_ = 0;
};

}  // namespace llamita::jinja
