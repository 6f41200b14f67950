#include "text/jinja/expression_parser.h"

#include <algorithm>

#include "text/jinja/budget.h"

namespace llamita::jinja {

using Kind = Token::Kind;

ExpressionParser::Nesting::Nesting(ExpressionParser& parser) : parser_(parser) {
  if (++parser.nesting_ > kMaxParseDepth) {
    parser.fail_now(cat("brackets and blocks are nested deeper than ", kMaxParseDepth));
  }
}

bool ExpressionParser::skip_op(std::string_view op) {
  if (!is_op(op)) return false;
  skip();
  return true;
}

bool ExpressionParser::skip_name(std::string_view name) {
  if (!is_name(name)) return false;
  skip();
  return true;
}

void ExpressionParser::expect_op(std::string_view op) {
  if (!skip_op(op)) fail_unexpected(cat("'", op, "'"));
}

std::string ExpressionParser::expect_any_name() {
  if (now().kind != Kind::name) fail_unexpected("a name");
  std::string name = now().text;
  skip();
  return name;
}

void ExpressionParser::fail_now(std::string_view message) const {
  fail_at(now().line, now().column, message);
}

void ExpressionParser::fail_unexpected(std::string_view wanted) const {
  std::string came;
  switch (now().kind) {
    case Kind::end: came = "the end of the template"; break;
    case Kind::block_end: came = "'%}'"; break;
    case Kind::output_end: came = "'}}'"; break;
    case Kind::integer:
    case Kind::real: came = "a number"; break;
    case Kind::text: came = "a string"; break;
    default: came = cat("'", now().text, "'");
  }
  fail_now(cat("expected ", wanted, ", got ", came));
}

ExprPtr ExpressionParser::make(Expr::Kind kind, int line, std::string name) const {
  auto node = std::make_unique<Expr>();
  node->kind = kind;
  node->line = line;
  node->name = std::move(name);
  return node;
}

ExprPtr ExpressionParser::done(ExprPtr node) const {
  int below = 0;
  const auto see = [&](const ExprPtr& part) {
    if (part) below = std::max(below, part->depth);
  };
  for (const auto& child : node->children) see(child);
  for (const auto& argument : node->positional) see(argument);
  for (const auto& argument : node->keyword) see(argument.second);
  see(node->star);
  see(node->double_star);
  node->depth = below + 1;
  if (node->depth > kMaxTreeDepth) fail_now(cat("this expression is nested deeper than ", kMaxTreeDepth));
  return node;
}

ExprPtr ExpressionParser::binary(int line, std::string op, ExprPtr a, ExprPtr b) const {
  auto node = make(Expr::Kind::binary, line, std::move(op));
  node->children.push_back(std::move(a));
  node->children.push_back(std::move(b));
  return done(std::move(node));
}

ExprPtr ExpressionParser::parse_expression() {
  const Nesting nesting(*this);
  return parse_conditional();
}

ExprPtr ExpressionParser::parse_conditional() {
  ExprPtr node = parse_or();
  while (is_name("if")) {
    auto conditional = make(Expr::Kind::conditional, now().line);
    skip();
    conditional->children.push_back(parse_or());
    conditional->children.push_back(std::move(node));
    conditional->children.push_back(skip_name("else") ? parse_expression() : nullptr);
    node = done(std::move(conditional));
  }
  return node;
}

ExprPtr ExpressionParser::parse_or() {
  ExprPtr left = parse_and();
  while (is_name("or")) {
    auto node = make(Expr::Kind::logical_or, now().line);
    skip();
    node->children.push_back(std::move(left));
    node->children.push_back(parse_and());
    left = done(std::move(node));
  }
  return left;
}

ExprPtr ExpressionParser::parse_and() {
  ExprPtr left = parse_not();
  while (is_name("and")) {
    auto node = make(Expr::Kind::logical_and, now().line);
    skip();
    node->children.push_back(std::move(left));
    node->children.push_back(parse_not());
    left = done(std::move(node));
  }
  return left;
}

ExprPtr ExpressionParser::parse_not() {
  if (!is_name("not")) return parse_compare();
  const Nesting nesting(*this);
  auto node = make(Expr::Kind::logical_not, now().line);
  skip();
  node->children.push_back(parse_not());
  return done(std::move(node));
}

ExprPtr ExpressionParser::parse_compare() {
  const int line = now().line;
  ExprPtr first = parse_sum();
  auto node = make(Expr::Kind::compare, line);
  node->children.push_back(std::move(first));
  while (true) {
    const std::string& op = now().text;
    if (now().kind == Kind::op &&
        (op == "==" || op == "!=" || op == "<" || op == "<=" || op == ">" || op == ">=")) {
      node->ops.push_back(op);
      skip();
    } else if (skip_name("in")) {
      node->ops.push_back("in");
    } else if (is_name("not") && ahead().kind == Kind::name && ahead().text == "in") {
      skip();
      skip();
      node->ops.push_back("not in");
    } else {
      break;
    }
    node->children.push_back(parse_sum());
  }
  return node->ops.empty() ? std::move(node->children[0]) : done(std::move(node));
}

ExprPtr ExpressionParser::parse_sum() {
  ExprPtr left = parse_concat();
  while (is_op("+") || is_op("-")) {
    const Token op = now();
    skip();
    left = binary(op.line, op.text, std::move(left), parse_concat());
  }
  return left;
}

ExprPtr ExpressionParser::parse_concat() {
  const int line = now().line;
  ExprPtr first = parse_product();
  if (!is_op("~")) return first;
  auto node = make(Expr::Kind::concat, line);
  node->children.push_back(std::move(first));
  while (skip_op("~")) node->children.push_back(parse_product());
  return done(std::move(node));
}

ExprPtr ExpressionParser::parse_product() {
  ExprPtr left = parse_power();
  while (is_op("*") || is_op("/") || is_op("//") || is_op("%")) {
    const Token op = now();
    skip();
    left = binary(op.line, op.text, std::move(left), parse_power());
  }
  return left;
}

ExprPtr ExpressionParser::parse_power() {
  ExprPtr left = parse_unary(true);
  while (is_op("**")) {
    const Token op = now();
    skip();
    left = binary(op.line, op.text, std::move(left), parse_unary(true));
  }
  return left;
}

ExprPtr ExpressionParser::parse_unary(bool with_filters) {
  ExprPtr node;
  if (is_op("-") || is_op("+")) {
    const Nesting nesting(*this);
    node = make(is_op("-") ? Expr::Kind::negative : Expr::Kind::positive, now().line);
    skip();
    node->children.push_back(parse_unary(false));
    node = done(std::move(node));
  } else {
    node = parse_primary();
  }
  node = parse_postfix(std::move(node));
  return with_filters ? parse_filters_and_tests(std::move(node)) : std::move(node);
}

ExprPtr ExpressionParser::parse_primary() {
  const Token token = now();
  auto literal = make(Expr::Kind::literal, token.line);
  switch (token.kind) {
    case Kind::name: {
      skip();
      const std::string& name = token.text;
      if (name == "none" || name == "None") return literal;
      if (name == "true" || name == "True" || name == "false" || name == "False") {
        literal->value = Value::boolean(name == "true" || name == "True");
        return literal;
      }
      for (Mentions& macro : macros_) {
        macro.caller |= name == "caller";
        macro.varargs |= name == "varargs";
        macro.kwargs |= name == "kwargs";
      }
      return make(Expr::Kind::name, token.line, name);
    }
    case Kind::text: {
      std::string text;
      for (; now().kind == Kind::text; skip()) text += now().text;
      literal->value = Value::text(text);
      return literal;
    }
    case Kind::integer:
    case Kind::real:
      skip();
      literal->value = token.kind == Kind::real ? Value::real(token.real) : Value::integer(token.integer);
      return literal;
    default: break;
  }
  if (is_op("[")) return parse_list();
  if (is_op("{")) return parse_dict();
  if (!skip_op("(")) fail_unexpected("an expression");
  ExprPtr inside = parse_tuple(true, "", true);
  expect_op(")");
  return inside;
}

bool ExpressionParser::at_tuple_end(std::string_view stop) const {
  return now().kind == Kind::output_end || now().kind == Kind::block_end || is_op(")") ||
         (!stop.empty() && is_name(stop));
}

ExprPtr ExpressionParser::parse_tuple(bool conditional, std::string_view stop, bool in_brackets) {
  const Nesting nesting(*this);
  auto node = make(Expr::Kind::tuple, now().line);
  bool comma = false;
  while (!at_tuple_end(stop)) {
    node->children.push_back(conditional ? parse_expression() : parse_or());
    if (!skip_op(",")) break;
    comma = true;
  }
  if (!comma && !node->children.empty()) return std::move(node->children[0]);
  if (!comma && !in_brackets) fail_unexpected("an expression");
  return done(std::move(node));
}

ExprPtr ExpressionParser::parse_list() {
  auto node = make(Expr::Kind::list, now().line);
  expect_op("[");
  while (!is_op("]")) {
    if (!node->children.empty()) expect_op(",");
    if (is_op("]")) break;
    node->children.push_back(parse_expression());
  }
  expect_op("]");
  return done(std::move(node));
}

ExprPtr ExpressionParser::parse_dict() {
  auto node = make(Expr::Kind::dict, now().line);
  expect_op("{");
  while (!is_op("}")) {
    if (!node->children.empty()) expect_op(",");
    if (is_op("}")) break;
    node->children.push_back(parse_expression());
    expect_op(":");
    node->children.push_back(parse_expression());
  }
  expect_op("}");
  return done(std::move(node));
}

ExprPtr ExpressionParser::parse_single_target() {
  auto node = make(Expr::Kind::name, now().line);
  node->name = expect_any_name();
  check_target(*node);
  return node;
}

ExprPtr ExpressionParser::parse_target(std::string_view stop, bool namespaces) {
  const auto one = [&]() -> ExprPtr {
    if (now().kind == Kind::op && now().text == "(") {
      skip();
      ExprPtr inside = parse_tuple(true, "", true);
      expect_op(")");
      return inside;
    }
    const int line = now().line;
    ExprPtr name = make(Expr::Kind::name, line, expect_any_name());
    if (!namespaces || !skip_op(".")) return name;
    auto member = make(Expr::Kind::attribute, line, expect_any_name());
    member->children.push_back(std::move(name));
    return done(std::move(member));
  };
  auto node = make(Expr::Kind::tuple, now().line);
  bool comma = false;
  while (!at_tuple_end(stop)) {
    node->children.push_back(one());
    if (!skip_op(",")) break;
    comma = true;
  }
  if (node->children.empty()) fail_unexpected("a name to assign to");
  ExprPtr target = comma ? done(std::move(node)) : std::move(node->children[0]);
  check_target(*target);
  return target;
}

void ExpressionParser::check_target(const Expr& node) const {
  if (node.kind == Expr::Kind::name || node.kind == Expr::Kind::attribute) {
    static constexpr std::string_view kReserved[] = {"true", "false", "none", "True", "False", "None"};
    const auto& name = node.kind == Expr::Kind::name ? node.name : node.children[0]->name;
    if (std::find(std::begin(kReserved), std::end(kReserved), name) == std::end(kReserved)) return;
  } else if (node.kind == Expr::Kind::tuple) {
    for (const auto& child : node.children) check_target(*child);
    return;
  }
  fail_at(node.line, now().column, "only names and namespace attributes can be assigned to");
}

}  // namespace llamita::jinja
