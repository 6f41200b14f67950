// What follows an operand: attributes, subscripts, calls, filters and tests.
#include "text/jinja/budget.h"
#include "text/jinja/expression_parser.h"

namespace llamita::jinja {

using Kind = Token::Kind;

ExprPtr ExpressionParser::parse_postfix(ExprPtr node) {
  while (true) {
    if (is_op(".")) {
      node = parse_attribute(std::move(node));
    } else if (is_op("[")) {
      node = parse_subscript(std::move(node));
    } else if (is_op("(")) {
      node = parse_call(std::move(node));
    } else {
      return node;
    }
  }
}

ExprPtr ExpressionParser::parse_filters_and_tests(ExprPtr node) {
  while (true) {
    if (is_op("|")) {
      node = parse_filters(std::move(node), false);
    } else if (is_name("is")) {
      node = parse_test(std::move(node));
    } else if (is_op("(")) {
      node = parse_call(std::move(node));
    } else {
      return node;
    }
  }
}

ExprPtr ExpressionParser::parse_attribute(ExprPtr node) {
  const int line = now().line;
  expect_op(".");
  if (now().kind == Kind::integer) {
    auto index = make(Expr::Kind::literal, line);
    index->value = Value::integer(now().integer);
    skip();
    auto item = make(Expr::Kind::item, line);
    item->children.push_back(std::move(node));
    item->children.push_back(std::move(index));
    return done(std::move(item));
  }
  auto attribute = make(Expr::Kind::attribute, line, expect_any_name());
  attribute->children.push_back(std::move(node));
  return done(std::move(attribute));
}

ExprPtr ExpressionParser::parse_subscript(ExprPtr node) {
  expect_op("[");
  ExprPtr out = parse_subscript_part(std::move(node));
  if (is_op(",")) {
    if (out->kind == Expr::Kind::slice) fail_now("a slice has one dimension");
    auto tuple = make(Expr::Kind::tuple, now().line);
    tuple->children.push_back(std::move(out->children[1]));
    while (skip_op(",")) tuple->children.push_back(parse_expression());
    out->children[1] = done(std::move(tuple));
    out = done(std::move(out));
  }
  expect_op("]");
  return out;
}

ExprPtr ExpressionParser::parse_subscript_part(ExprPtr node) {
  const int line = now().line;
  ExprPtr parts[3];
  size_t n = 0;
  if (!is_op(":")) parts[0] = parse_expression();
  while (n < 2 && skip_op(":")) {
    ++n;
    if (!is_op(":") && !is_op("]") && !is_op(",")) parts[n] = parse_expression();
  }
  auto out = make(n == 0 ? Expr::Kind::item : Expr::Kind::slice, line);
  out->children.push_back(std::move(node));
  out->children.push_back(std::move(parts[0]));
  if (n > 0) {
    out->children.push_back(std::move(parts[1]));
    out->children.push_back(std::move(parts[2]));
  }
  return done(std::move(out));
}

void ExpressionParser::parse_arguments(Expr& node) {
  const Token opened = now();
  const auto require = [&](bool condition) {
    if (!condition)
      fail_at(opened.line, opened.column, "these arguments are in an order that a call cannot have");
  };
  expect_op("(");
  bool first = true;
  while (!is_op(")")) {
    if (!first) {
      expect_op(",");
      if (is_op(")")) break;
    }
    first = false;
    if (skip_op("*")) {
      require(!node.star && !node.double_star);
      node.star = parse_expression();
    } else if (skip_op("**")) {
      require(!node.double_star);
      node.double_star = parse_expression();
    } else if (now().kind == Kind::name && ahead().kind == Kind::op && ahead().text == "=") {
      require(!node.double_star);
      std::string name = now().text;
      skip();
      skip();
      for (const auto& earlier : node.keyword) {
        if (earlier.first == name) fail_now(cat("the argument '", name, "' is given twice"));
      }
      node.keyword.emplace_back(std::move(name), parse_expression());
    } else {
      require(!node.star && !node.double_star && node.keyword.empty());
      node.positional.push_back(parse_expression());
    }
  }
  expect_op(")");
}

ExprPtr ExpressionParser::parse_call(ExprPtr node) {
  auto out = make(Expr::Kind::call, now().line);
  out->children.push_back(std::move(node));
  parse_arguments(*out);
  return done(std::move(out));
}

ExprPtr ExpressionParser::parse_filters(ExprPtr input, bool first_without_bar) {
  while (first_without_bar || is_op("|")) {
    if (!first_without_bar) skip();
    first_without_bar = false;
    auto node = make(Expr::Kind::filter, now().line);
    node->name = expect_any_name();
    while (skip_op(".")) node->name += "." + expect_any_name();
    node->children.push_back(std::move(input));
    if (is_op("(")) parse_arguments(*node);
    input = done(std::move(node));
  }
  return input;
}

ExprPtr ExpressionParser::parse_test(ExprPtr node) {
  auto test = make(Expr::Kind::test, now().line);
  skip();
  const bool negated = skip_name("not");
  test->name = expect_any_name();
  while (skip_op(".")) test->name += "." + expect_any_name();
  test->children.push_back(std::move(node));
  const bool operand = now().kind == Kind::name || now().kind == Kind::text || now().kind == Kind::integer ||
                       now().kind == Kind::real || is_op("[") || is_op("{");
  if (is_op("(")) {
    parse_arguments(*test);
  } else if (operand && !is_name("else") && !is_name("or") && !is_name("and")) {
    if (is_name("is")) fail_now("a test's result cannot be tested again with 'is'");
    test->positional.push_back(parse_postfix(parse_primary()));
  }
  ExprPtr out = done(std::move(test));
  if (!negated) return out;
  auto opposite = make(Expr::Kind::logical_not, out->line);
  opposite->children.push_back(std::move(out));
  return done(std::move(opposite));
}

}  // namespace llamita::jinja
