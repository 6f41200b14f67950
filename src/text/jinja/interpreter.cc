// Statements.
#include "text/jinja/interpreter.h"

#include <algorithm>

#include "text/jinja/interpreter_guards.h"
#include "text/jinja/loop.h"

namespace llamita::jinja {

using Kind = Stmt::Kind;

class Macro : public Object {
 public:
  Macro(Interpreter& owner, const Stmt& stmt, std::shared_ptr<Scope> scope, std::string name)
      : owner_(owner), stmt_(stmt), scope_(std::move(scope)), name_(std::move(name)) {}
  std::string type_name() const override { return "Macro"; }
  std::string repr() const override {
    return name_.empty() ? "<Macro anonymous>" : cat("<Macro '", name_, "'>");
  }
  std::optional<Value> attribute(Runtime&, std::string_view name) override {
    if (name == "name") return name_.empty() ? Value() : Value::text(name_);
    return std::nullopt;
  }
  bool callable() const override { return true; }
  Value call(Runtime&, const CallArgs& args) override {
    return owner_.call_macro(stmt_, scope_, name_, args);
  }

 private:
  Interpreter& owner_;
  const Stmt& stmt_;
  std::shared_ptr<Scope> scope_;
  std::string name_;
};

Interpreter::Interpreter(std::vector<std::pair<std::string, Value>> variables, std::tm now)
    : runtime_(now), scope_(std::make_shared<Scope>(nullptr)) {
  for (auto& [name, value] : variables) scope_->set(name, std::move(value));
  // What the template sets must not change what was given: a scope of its own.
  scope_ = std::make_shared<Scope>(std::move(scope_));
}

Text Interpreter::run(const Body& body) {
  Text out;
  out_ = &out;
  exec(body);
  return out;
}

void Interpreter::write(const Text& text) {
  runtime_.budget().text(out_->size() + text.size() > kMaxText ? kMaxText + 1 : text.size());
  out_->append(text);
}

Interpreter::Flow Interpreter::exec(const Body& body) {
  for (const auto& stmt : body) {
    const Flow flow = exec(*stmt);
    if (flow != Flow::normal) return flow;
  }
  return Flow::normal;
}

Interpreter::Flow Interpreter::exec(const Stmt& stmt) {
  const Level level(*this, stmt.line);
  switch (stmt.kind) {
    case Kind::data: write(Text(stmt.text, true)); break;
    case Kind::output: exec_output(stmt); break;
    case Kind::assign: assign(*stmt.targets[0], eval(*stmt.exprs[0])); break;
    case Kind::assign_body: exec_assign_body(stmt); break;
    case Kind::branch: return exec_branch(stmt);
    case Kind::loop: return exec_loop(stmt, eval(*stmt.exprs[0]), scope_, 0);
    case Kind::with: return exec_with(stmt);
    case Kind::macro: scope_->set(stmt.text, make_macro(stmt, stmt.text)); break;
    case Kind::call_block: exec_call_block(stmt); break;
    case Kind::filter_body: exec_filter_body(stmt); break;
    case Kind::scope: write(capture(stmt.bodies[0])); break;
    case Kind::stop: return Flow::stop;
    case Kind::next: return Flow::next;
  }
  return Flow::normal;
}

void Interpreter::exec_output(const Stmt& stmt) {
  for (const auto& expr : stmt.exprs) write(to_text(runtime_, eval(*expr)));
}

Text Interpreter::capture(const Body& body) {
  const InScope scope(*this, std::make_shared<Scope>(scope_));
  Captured captured(*this);
  exec(body);
  return captured.take();
}

void Interpreter::exec_assign_body(const Stmt& stmt) {
  Value value = Value::text(capture(stmt.bodies[0]));
  if (stmt.exprs[0]) value = eval_filter(*stmt.exprs[0], &value);
  assign(*stmt.targets[0], value);
}

void Interpreter::exec_filter_body(const Stmt& stmt) {
  const Value input = Value::text(capture(stmt.bodies[0]));
  const Value output = eval_filter(*stmt.exprs[0], &input);
  if (!output.is_text()) fail("a filter block's filter must return a string, not '", output.type_name(), "'");
  write(output.as_text());
}

Interpreter::Flow Interpreter::exec_branch(const Stmt& stmt) {
  for (size_t i = 0; i < stmt.exprs.size(); ++i) {
    if (truth(eval(*stmt.exprs[i]))) return exec(stmt.bodies[i]);
  }
  return exec(stmt.bodies.back());
}

// The items that the loop visits: those that pass its `if`.
Values Interpreter::loop_items(const Stmt& stmt, const Value& items, const ScopePtr& outside) {
  Values all = iterate(runtime_, items);
  if (!stmt.exprs[1]) return all;
  Values out;
  for (const Value& item : all) {
    const InScope scope(*this, std::make_shared<Scope>(outside));
    scope_->set("loop", Value::undefined("'loop' is undefined in the filter of a loop"));
    assign(*stmt.targets[0], item);
    if (truth(eval(*stmt.exprs[1]))) out.push_back(item);
  }
  return out;
}

Interpreter::Flow Interpreter::exec_loop(const Stmt& stmt, const Value& items, const ScopePtr& outside,
                                         int64_t depth0) {
  const auto visited = std::make_shared<const Values>(loop_items(stmt, items, outside));
  if (visited->empty()) {
    const InScope scope(*this, std::make_shared<Scope>(outside));
    return exec(stmt.bodies[1]);
  }
  Loop::Recurse recurse;
  if (stmt.recursive) {
    recurse = [this, &stmt, outside](const Value& inner, int64_t depth) {
      const Level level(*this, stmt.line);
      Captured captured(*this);
      exec_loop(stmt, inner, outside, depth);
      return Value::text(captured.take());
    };
  }
  const auto loop = std::make_shared<Loop>(visited, depth0, std::move(recurse));
  const Value loop_value = Value::object(loop);
  for (const Value& item : *visited) {
    runtime_.budget().step();
    loop->advance();
    const InScope scope(*this, std::make_shared<Scope>(outside));
    scope_->set("loop", loop_value);
    assign(*stmt.targets[0], item);
    if (exec(stmt.bodies[0]) == Flow::stop) break;
  }
  return Flow::normal;
}

Interpreter::Flow Interpreter::exec_with(const Stmt& stmt) {
  Values values;
  for (const auto& expr : stmt.exprs) values.push_back(eval(*expr));
  const InScope scope(*this, std::make_shared<Scope>(scope_));
  for (size_t i = 0; i < values.size(); ++i) assign(*stmt.targets[i], values[i]);
  return exec(stmt.bodies[0]);
}

Value Interpreter::make_macro(const Stmt& stmt, std::string name) {
  // The macro holds the scope, and the scope soon holds the macro.
  runtime_.keep([scope = scope_] { scope->clear(); });
  return Value::object(std::make_shared<Macro>(*this, stmt, scope_, std::move(name)));
}

void Interpreter::exec_call_block(const Stmt& stmt) {
  const Expr& expr = *stmt.exprs[0];
  const Value callee = eval(*expr.children[0]);
  CallArgs args = eval_arguments(expr);
  args.keyword.emplace_back("caller", make_macro(stmt, "caller"));
  line_ = stmt.line;
  write(to_text(runtime_, call(runtime_, callee, args)));
}

Value Interpreter::call_macro(const Stmt& stmt, const ScopePtr& scope, const std::string& name,
                              const CallArgs& args) {
  const Level level(*this, stmt.line);
  const InScope inside(*this, std::make_shared<Scope>(scope));
  bind_parameters(stmt, name, args);
  Captured captured(*this);
  exec(stmt.bodies[0]);
  return Value::text(captured.take());
}

void Interpreter::bind_parameters(const Stmt& stmt, const std::string& name, const CallArgs& args) {
  auto keyword = args.keyword;
  const auto take = [&](const std::string& wanted) -> std::optional<Value> {
    const auto found = std::find_if(keyword.begin(), keyword.end(),
                                    [&](const auto& entry) { return entry.first == wanted; });
    if (found == keyword.end()) return std::nullopt;
    Value value = std::move(found->second);
    keyword.erase(found);
    return value;
  };
  bool has_caller = false;
  for (size_t i = 0; i < stmt.parameters.size(); ++i) {
    const auto& parameter = stmt.parameters[i];
    has_caller |= parameter.name == "caller";
    std::optional<Value> value;
    if (i < args.positional.size()) {
      value = args.positional[i];
    } else {
      value = take(parameter.name);
    }
    if (!value && parameter.fallback) value = eval(*parameter.fallback);
    if (!value) value = Value::undefined(cat("parameter '", parameter.name, "' was not provided"));
    scope_->set(parameter.name, std::move(*value));
  }
  if (stmt.uses_caller && !has_caller) {
    const auto caller = take("caller");
    scope_->set("caller", caller ? *caller : Value::undefined("No caller defined"));
  }
  if (stmt.uses_kwargs) {
    Dict rest;
    for (const auto& [key, value] : keyword) rest.set(Value::text(key), value);
    scope_->set("kwargs", Value::dict(std::move(rest)));
  } else if (!keyword.empty()) {
    fail("macro '", name, "' takes no keyword argument '", keyword.front().first, "'");
  }
  const size_t taken = std::min(args.positional.size(), stmt.parameters.size());
  if (stmt.uses_varargs) {
    const auto first = args.positional.begin() + static_cast<std::ptrdiff_t>(taken);
    scope_->set("varargs", runtime_.tuple(Values(first, args.positional.end())));
  } else if (args.positional.size() > taken) {
    fail("macro '", name, "' takes not more than ", stmt.parameters.size(), " argument(s)");
  }
}

void Interpreter::assign(const Expr& target, const Value& value) {
  if (target.kind == Expr::Kind::name) {
    scope_->set(target.name, value);
  } else if (target.kind == Expr::Kind::attribute) {
    set_attribute(runtime_, eval(*target.children[0]), target.name, value);
  } else {
    if (!is_iterable(value)) fail("cannot unpack '", value.type_name(), "'");
    const Values items = iterate(runtime_, value);
    if (items.size() != target.children.size()) {
      fail("expected ", target.children.size(), " values to unpack, got ", items.size());
    }
    for (size_t i = 0; i < items.size(); ++i) assign(*target.children[i], items[i]);
  }
}

}  // namespace llamita::jinja
