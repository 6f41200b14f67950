#include "text/jinja/parser.h"

#include <algorithm>
#include <initializer_list>

#include "text/jinja/budget.h"
#include "text/jinja/expression_parser.h"

namespace llamita::jinja {

namespace {

using Kind = Token::Kind;
using Names = std::initializer_list<std::string_view>;

class Parser : public ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  Body run() {
    Body body = parse_body({});
    if (now().kind != Kind::end) fail_unexpected("the end of the template");
    return body;
  }

 private:
  StmtPtr make_stmt(Stmt::Kind kind, int line) const {
    auto stmt = std::make_unique<Stmt>();
    stmt->kind = kind;
    stmt->line = line;
    return stmt;
  }

  StmtPtr done(StmtPtr stmt) const {
    int below = 0;
    for (const auto& expr : stmt->exprs) below = std::max(below, expr ? expr->depth : 0);
    for (const auto& target : stmt->targets) below = std::max(below, target->depth);
    for (const auto& parameter : stmt->parameters) {
      below = std::max(below, parameter.fallback ? parameter.fallback->depth : 0);
    }
    for (const auto& body : stmt->bodies) {
      for (const auto& inner : body) below = std::max(below, inner->depth);
    }
    stmt->depth = below + 1;
    if (stmt->depth > kMaxTreeDepth) fail_now(cat("this statement is nested deeper than ", kMaxTreeDepth));
    return stmt;
  }
  using ExpressionParser::done;

  bool at_end_tag(Names end_tags) const {
    return now().kind == Kind::name &&
           std::find(end_tags.begin(), end_tags.end(), now().text) != end_tags.end();
  }

  // Statements up to one of `end_tags`, which is then the current token.
  Body parse_body(Names end_tags) {
    Body body;
    while (now().kind != Kind::end) {
      const int line = now().line;
      if (now().kind == Kind::data) {
        auto stmt = make_stmt(Stmt::Kind::data, line);
        stmt->text = now().text;
        skip();
        body.push_back(std::move(stmt));
      } else if (now().kind == Kind::output_begin) {
        skip();
        auto stmt = make_stmt(Stmt::Kind::output, line);
        stmt->exprs.push_back(parse_tuple(true, "", false));
        if (now().kind != Kind::output_end) fail_unexpected("'}}'");
        skip();
        body.push_back(done(std::move(stmt)));
      } else {
        skip();
        if (at_end_tag(end_tags)) return body;
        body.push_back(parse_statement());
        expect_block_end();
      }
    }
    if (end_tags.size() > 0) fail_unexpected(cat("'{% ", *(end_tags.end() - 1), " %}'"));
    return body;
  }

  void expect_block_end() {
    if (now().kind != Kind::block_end) fail_unexpected("'%}'");
    skip();
  }

  // The body that a tag opens: the rest of the tag, then statements.
  Body parse_block(Names end_tags) {
    skip_op(":");
    expect_block_end();
    return parse_body(end_tags);
  }

  StmtPtr parse_statement() {
    const Nesting nesting(*this);
    if (now().kind != Kind::name) fail_unexpected("the name of a statement");
    const Token tag = now();
    skip();
    if (tag.text == "set") return parse_set(tag.line);
    if (tag.text == "if") return parse_if(tag.line);
    if (tag.text == "for") return parse_for(tag.line);
    if (tag.text == "macro") return parse_macro(tag.line);
    if (tag.text == "call") return parse_call_block(tag.line);
    if (tag.text == "filter") return parse_filter_block(tag.line);
    if (tag.text == "with") return parse_with(tag.line);
    if (tag.text == "print") return parse_print(tag.line);
    if (tag.text == "generation") return parse_generation(tag.line);
    if (tag.text == "break" || tag.text == "continue") {
      if (loops_ == 0) fail_at(tag.line, tag.column, cat("'", tag.text, "' stands outside of any loop"));
      return make_stmt(tag.text == "break" ? Stmt::Kind::stop : Stmt::Kind::next, tag.line);
    }
    fail_at(tag.line, tag.column, cat("'{% ", tag.text, " %}' is no statement of a chat template"));
  }

  StmtPtr parse_set(int line) {
    ExprPtr target = parse_target("", true);
    auto stmt = make_stmt(Stmt::Kind::assign, line);
    stmt->targets.push_back(std::move(target));
    if (skip_op("=")) {
      stmt->exprs.push_back(parse_tuple(true, "", false));
      return done(std::move(stmt));
    }
    stmt->kind = Stmt::Kind::assign_body;
    stmt->exprs.push_back(parse_filters(nullptr, false));
    stmt->bodies.push_back(parse_captured({"endset"}));
    return done(std::move(stmt));
  }

  // A body whose output is caught; break and continue cannot leave it.
  Body parse_captured(Names end_tags) {
    const int loops = std::exchange(loops_, 0);
    Body body = parse_block(end_tags);
    skip();
    loops_ = loops;
    return body;
  }

  StmtPtr parse_if(int line) {
    auto stmt = make_stmt(Stmt::Kind::branch, line);
    while (true) {
      stmt->exprs.push_back(parse_tuple(false, "", false));
      stmt->bodies.push_back(parse_block({"elif", "else", "endif"}));
      if (skip_name("elif")) continue;
      if (skip_name("else")) {
        stmt->bodies.push_back(parse_block({"endif"}));
      } else {
        stmt->bodies.emplace_back();
      }
      skip();
      return done(std::move(stmt));
    }
  }

  StmtPtr parse_for(int line) {
    auto stmt = make_stmt(Stmt::Kind::loop, line);
    stmt->targets.push_back(parse_target("in", false));
    if (!skip_name("in")) fail_unexpected("'in'");
    stmt->exprs.push_back(parse_tuple(false, "recursive", false));
    stmt->exprs.push_back(skip_name("if") ? parse_expression() : nullptr);
    stmt->recursive = skip_name("recursive");
    ++loops_;
    stmt->bodies.push_back(parse_block({"else", "endfor"}));
    --loops_;
    if (skip_name("else")) {
      stmt->bodies.push_back(parse_block({"endfor"}));
    } else {
      stmt->bodies.emplace_back();
    }
    skip();
    return done(std::move(stmt));
  }

  StmtPtr parse_with(int line) {
    auto stmt = make_stmt(Stmt::Kind::with, line);
    while (now().kind != Kind::block_end) {
      if (!stmt->targets.empty()) expect_op(",");
      stmt->targets.push_back(parse_target("", false));
      expect_op("=");
      stmt->exprs.push_back(parse_expression());
    }
    stmt->bodies.push_back(parse_block({"endwith"}));
    skip();
    return done(std::move(stmt));
  }

  void parse_parameters(Stmt& stmt) {
    expect_op("(");
    while (!is_op(")")) {
      if (!stmt.parameters.empty()) expect_op(",");
      Stmt::Parameter parameter{parse_single_target()->name, nullptr};
      if (skip_op("=")) {
        parameter.fallback = parse_expression();
      } else if (!stmt.parameters.empty() && stmt.parameters.back().fallback) {
        fail_now("a parameter without a default follows one with a default");
      }
      for (const auto& earlier : stmt.parameters) {
        if (earlier.name == parameter.name)
          fail_now(cat("the parameter '", parameter.name, "' stands twice"));
      }
      stmt.parameters.push_back(std::move(parameter));
    }
    expect_op(")");
  }

  void parse_macro_body(Stmt& stmt, Names end_tags) {
    stmt.bodies.push_back(parse_captured(end_tags));
    stmt.uses_caller = macros_.back().caller;
    stmt.uses_varargs = macros_.back().varargs;
    stmt.uses_kwargs = macros_.back().kwargs;
    macros_.pop_back();
  }

  StmtPtr parse_macro(int line) {
    auto stmt = make_stmt(Stmt::Kind::macro, line);
    stmt->text = parse_single_target()->name;
    macros_.emplace_back();
    parse_parameters(*stmt);
    parse_macro_body(*stmt, {"endmacro"});
    return done(std::move(stmt));
  }

  StmtPtr parse_call_block(int line) {
    auto stmt = make_stmt(Stmt::Kind::call_block, line);
    if (is_op("(")) parse_parameters(*stmt);
    stmt->exprs.push_back(parse_expression());
    if (stmt->exprs[0]->kind != Expr::Kind::call) fail_now("a call block needs a call");
    macros_.emplace_back();
    parse_macro_body(*stmt, {"endcall"});
    return done(std::move(stmt));
  }

  StmtPtr parse_filter_block(int line) {
    auto stmt = make_stmt(Stmt::Kind::filter_body, line);
    stmt->exprs.push_back(parse_filters(nullptr, true));
    stmt->bodies.push_back(parse_captured({"endfilter"}));
    return done(std::move(stmt));
  }

  StmtPtr parse_print(int line) {
    auto stmt = make_stmt(Stmt::Kind::output, line);
    while (now().kind != Kind::block_end) {
      if (!stmt->exprs.empty()) expect_op(",");
      stmt->exprs.push_back(parse_expression());
    }
    return done(std::move(stmt));
  }

  StmtPtr parse_generation(int line) {
    auto stmt = make_stmt(Stmt::Kind::scope, line);
    stmt->bodies.push_back(parse_captured({"endgeneration"}));
    return done(std::move(stmt));
  }

  int loops_ = 0;  // loops that break and continue could leave here
};

}  // namespace

Body parse(std::string_view source) { return Parser(tokenize(source)).run(); }

}  // namespace llamita::jinja
