// Expressions.
#include "text/jinja/interpreter.h"

#include "text/jinja/interpreter_guards.h"
#include "text/jinja/text_ops.h"

namespace llamita::jinja {

using Kind = Expr::Kind;

Value Interpreter::eval(const Expr& expr) {
  const Level level(*this, expr.line);
  return eval_node(expr);
}

Value Interpreter::eval_node(const Expr& expr) {
  const auto child = [&](size_t i) { return eval(*expr.children[i]); };
  switch (expr.kind) {
    case Kind::literal: return expr.value;
    case Kind::name: return eval_name(expr);
    case Kind::list: return runtime_.list(eval_all(expr.children));
    case Kind::tuple: return runtime_.tuple(eval_all(expr.children));
    case Kind::dict: return eval_dict(expr);
    case Kind::negative: return negate(child(0));
    case Kind::positive: return positive(child(0));
    case Kind::logical_not: return Value::boolean(!truth(child(0)));
    case Kind::logical_and: {
      Value left = child(0);
      return truth(left) ? child(1) : left;
    }
    case Kind::logical_or: {
      Value left = child(0);
      return truth(left) ? left : child(1);
    }
    case Kind::compare: return eval_compare(expr);
    case Kind::binary: {
      const Value left = child(0);
      const Value right = child(1);
      line_ = expr.line;
      return binary(runtime_, expr.name, left, right);
    }
    case Kind::concat: return eval_concat(expr);
    case Kind::conditional: return eval_conditional(expr);
    case Kind::attribute: return get_attribute(runtime_, child(0), expr.name);
    case Kind::item: {
      const Value value = child(0);
      return get_item(runtime_, value, child(1));
    }
    case Kind::slice: return eval_slice(expr);
    case Kind::call: {
      const Value callee = child(0);
      const CallArgs args = eval_arguments(expr);
      line_ = expr.line;
      return call(runtime_, callee, args);
    }
    case Kind::filter: return eval_filter(expr, nullptr);
    case Kind::test: break;
  }
  const Value input = child(0);
  return Value::boolean(call_test(runtime_, expr.name, input, eval_arguments(expr)));
}

Value Interpreter::eval_name(const Expr& expr) {
  if (const Value* found = scope_->find(expr.name)) return *found;
  if (const Value* found = find_global(expr.name)) return *found;
  return Value::undefined(cat("'", expr.name, "' is undefined"));
}

Value Interpreter::eval_dict(const Expr& expr) {
  Dict out;
  for (size_t i = 0; i < expr.children.size(); i += 2) {
    const Value key = eval(*expr.children[i]);
    out.set(key, eval(*expr.children[i + 1]));
  }
  runtime_.budget().work(out.size() * sizeof(Dict::Entry));
  return Value::dict(std::move(out));
}

Value Interpreter::eval_compare(const Expr& expr) {
  Value left = eval(*expr.children[0]);
  for (size_t i = 0; i < expr.ops.size(); ++i) {
    Value right = eval(*expr.children[i + 1]);
    if (!compare(expr.ops[i], left, right)) return Value::boolean(false);
    left = std::move(right);
  }
  return Value::boolean(true);
}

bool Interpreter::compare(std::string_view op, const Value& a, const Value& b) {
  if (op == "==") return equal(runtime_, a, b);
  if (op == "!=") return !equal(runtime_, a, b);
  if (op == "in") return contains(runtime_, b, a);
  if (op == "not in") return !contains(runtime_, b, a);
  return call_test(runtime_, op, a, CallArgs{{b}, {}});
}

Value Interpreter::eval_concat(const Expr& expr) {
  Text out;
  for (const auto& child : expr.children) {
    const Text part = to_text(runtime_, eval(*child));
    runtime_.budget().text(out.size() + part.size() > kMaxText ? kMaxText + 1 : part.size());
    out.append(part);
  }
  return Value::text(std::move(out));
}

Value Interpreter::eval_conditional(const Expr& expr) {
  if (truth(eval(*expr.children[0]))) return eval(*expr.children[1]);
  if (expr.children[2]) return eval(*expr.children[2]);
  return Value::undefined(cat("the inline if-expression on line ", expr.line,
                              " evaluated to false and no else section was defined."));
}

Value Interpreter::eval_slice(const Expr& expr) {
  const Value value = eval(*expr.children[0]);
  const auto part = [&](size_t i) { return expr.children[i] ? eval(*expr.children[i]) : Value(); };
  const Value start = part(1);
  const Value stop = part(2);
  return get_slice(runtime_, value, start, stop, part(3));
}

Values Interpreter::eval_all(const std::vector<ExprPtr>& exprs) {
  Values out;
  out.reserve(exprs.size());
  for (const auto& expr : exprs) out.push_back(eval(*expr));
  return out;
}

CallArgs Interpreter::eval_arguments(const Expr& expr) {
  CallArgs args;
  args.positional = eval_all(expr.positional);
  for (const auto& [name, value] : expr.keyword) args.keyword.emplace_back(name, eval(*value));
  if (expr.star) {
    for (Value& item : iterate(runtime_, eval(*expr.star))) args.positional.push_back(std::move(item));
  }
  if (expr.double_star) {
    const Value more = eval(*expr.double_star);
    if (!more.is_dict()) fail("'**' takes a dict, not '", more.type_name(), "'");
    for (const auto& [key, value] : more.as_dict().entries()) {
      if (!key.is_text()) fail("keywords must be strings");
      for (const auto& earlier : args.keyword) {
        if (earlier.first == key.as_text().bytes()) fail("the argument '", earlier.first, "' is given twice");
      }
      args.keyword.emplace_back(key.as_text().bytes(), value);
    }
  }
  return args;
}

Value Interpreter::eval_filter(const Expr& expr, const Value* input) {
  const Level level(*this, expr.line);
  Value value;
  if (!expr.children[0]) {
    value = *input;
  } else if (input && expr.children[0]->kind == Kind::filter) {
    value = eval_filter(*expr.children[0], input);
  } else {
    value = eval(*expr.children[0]);
  }
  const CallArgs args = eval_arguments(expr);
  line_ = expr.line;
  return call_filter(runtime_, expr.name, value, args);
}

}  // namespace llamita::jinja
