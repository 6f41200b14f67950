// The functions a template finds without being given any, and the objects they make.
#include <algorithm>
#include <array>
#include <map>

#include "text/jinja/arguments.h"
#include "text/jinja/runtime.h"

namespace llamita::jinja {

namespace {

constexpr size_t kMaxRange = 100'000;  // the sandbox's own limit

class Range : public Object {
 public:
  Range(Values items, std::string repr) : items_(std::move(items)), repr_(std::move(repr)) {}
  std::string type_name() const override { return "range"; }
  std::string repr() const override { return repr_; }
  const Values* sequence() const override { return &items_; }
  bool indexable() const override { return true; }
  int depth() const override { return 1; }

 private:
  Values items_;
  std::string repr_;
};

class Namespace : public Object {
 public:
  std::string type_name() const override { return "Namespace"; }
  std::optional<Value> attribute(Runtime&, std::string_view name) override {
    const auto found = attributes_.find(name);
    if (found == attributes_.end()) return std::nullopt;
    return found->second;
  }
  void set(const std::string& name, Value value) {
    if (name.substr(0, 1) == "_") {
      fail("a namespace of a chat template takes no name that begins with an underscore, got '", name, "'");
    }
    attributes_[name] = std::move(value);
  }
  void clear() { attributes_.clear(); }

 private:
  std::map<std::string, Value, std::less<>> attributes_;
};

class Joiner : public Object {
 public:
  explicit Joiner(Value separator) : separator_(std::move(separator)) {}
  std::string type_name() const override { return "Joiner"; }
  bool callable() const override { return true; }
  Value call(Runtime&, const CallArgs&) override {
    return std::exchange(used_, true) ? separator_ : Value::text("");
  }
  int depth() const override { return separator_.depth() + 1; }

 private:
  Value separator_;
  bool used_ = false;
};

using Function = Value (*)(Runtime&, const CallArgs&);

class Builtin : public Object {
 public:
  Builtin(std::string name, Function function) : name_(std::move(name)), function_(function) {}
  std::string type_name() const override { return "function"; }
  std::string repr() const override { return "<function " + name_ + ">"; }
  bool callable() const override { return true; }
  Value call(Runtime& runtime, const CallArgs& args) override { return function_(runtime, args); }

 private:
  std::string name_;
  Function function_;
};

// cycler(…): current, next(), reset().
class Cycler : public Object, public std::enable_shared_from_this<Cycler> {
 public:
  explicit Cycler(Values items) : items_(std::move(items)) {
    for (const Value& item : items_) depth_ = std::max(depth_, item.depth() + 1);
  }
  std::string type_name() const override { return "Cycler"; }
  std::optional<Value> attribute(Runtime&, std::string_view name) override {
    if (name == "current") return items_[at_];
    if (name == "next" || name == "reset") {
      return Value::object(std::make_shared<Step>(shared_from_this(), name == "next"));
    }
    return std::nullopt;
  }
  int depth() const override { return depth_; }

 private:
  class Step : public Object {
   public:
    Step(std::shared_ptr<Cycler> cycler, bool advances) : cycler_(std::move(cycler)), advances_(advances) {}
    std::string type_name() const override { return "method"; }
    bool callable() const override { return true; }
    Value call(Runtime&, const CallArgs&) override {
      size_t& at = cycler_->at_;
      if (!advances_) {
        at = 0;
        return Value();
      }
      const Value current = cycler_->items_[at];
      at = (at + 1) % cycler_->items_.size();
      return current;
    }
    int depth() const override { return cycler_->depth() + 1; }

   private:
    std::shared_ptr<Cycler> cycler_;
    bool advances_;
  };

  Values items_;
  size_t at_ = 0;
  int depth_ = 1;
};

Value make_range(Runtime& runtime, const CallArgs& args) {
  const size_t given = args.positional.size();
  if (given < 1 || given > 3 || !args.keyword.empty()) fail("range() takes one to three numbers");
  const auto number = [&](size_t i) { return to_index(args.positional[i], "range()"); };
  const int64_t start = given == 1 ? 0 : number(0);
  const int64_t stop = given == 1 ? number(0) : number(1);
  const int64_t step = given == 3 ? number(2) : 1;
  if (step == 0) fail("the step of range() cannot be zero");
  Values items;
  int64_t at = start;
  while (step > 0 ? at < stop : at > stop) {
    if (items.size() == kMaxRange) fail("range() is limited to ", kMaxRange, " numbers");
    items.push_back(Value::integer(at));
    if (__builtin_add_overflow(at, step, &at)) break;
  }
  runtime.budget().work(items.size() * sizeof(Value));
  std::string shown = cat("range(", start, ", ", stop);
  if (given == 3 && step != 1) shown += cat(", ", step);
  return Value::object(std::make_shared<Range>(std::move(items), shown + ")"));
}

// dict(mapping or pairs, name=value, …)
Dict build_dict(Runtime& runtime, const CallArgs& args) {
  if (args.positional.size() > 1) fail("dict() takes at most one argument that has no name");
  Dict out;
  if (!args.positional.empty()) {
    const Value& source = args.positional[0];
    if (source.is_dict()) {
      out = source.as_dict();
    } else {
      if (!is_iterable(source)) fail("'", source.type_name(), "' object is not iterable");
      for (const Value& pair : iterate(runtime, source)) {
        const Values items = iterate(runtime, pair);
        if (items.size() != 2) fail("dict() takes pairs, got ", items.size(), " items");
        out.set(items[0], items[1]);
      }
    }
  }
  for (const auto& [name, value] : args.keyword) out.set(Value::text(name), value);
  runtime.budget().work(out.size() * sizeof(Dict::Entry));
  return out;
}

Value make_dict(Runtime& runtime, const CallArgs& args) { return Value::dict(build_dict(runtime, args)); }

Value make_namespace(Runtime& runtime, const CallArgs& args) {
  const auto out = std::make_shared<Namespace>();
  const Dict attributes = build_dict(runtime, args);
  for (const auto& [key, value] : attributes.entries()) {
    if (!key.is_text()) continue;  // cannot be asked for by any name
    out->set(key.as_text().bytes(), value);
  }
  runtime.keep([out] { out->clear(); });
  return Value::object(out);
}

Value raise_exception(Runtime& runtime, const CallArgs& args) {
  const Arguments given("raise_exception", args, {"message"}, 1);
  fail(to_text(runtime, given[0]).view());
}

Value strftime_now(Runtime& runtime, const CallArgs& args) {
  const Arguments given("strftime_now", args, {"format"}, 1);
  const Text& format = given.text(0);
  constexpr size_t kMaxFormat = 256;
  if (format.size() > kMaxFormat) fail("strftime_now() takes a format of at most ", kMaxFormat, " bytes");
  if (format.empty()) return Value::text("");
  // A blank in front tells an empty result from one that did not fit.
  const std::string pattern = " " + format.bytes();
  std::string out(pattern.size() * 32, '\0');
  const size_t n = std::strftime(out.data(), out.size(), pattern.c_str(), &runtime.now());
  if (n == 0) fail("strftime_now(): the date is too long");
  return runtime.text(Text(out.substr(1, n - 1), format.trusted()));
}

Value make_joiner(Runtime&, const CallArgs& args) {
  const Arguments given("joiner", args, {"sep"}, 0);
  return Value::object(std::make_shared<Joiner>(given.has(0) ? given[0] : Value::text(", ")));
}

Value make_cycler(Runtime&, const CallArgs& args) {
  if (args.positional.empty() || !args.keyword.empty()) fail("cycler() takes at least one item");
  return Value::object(std::make_shared<Cycler>(args.positional));
}

}  // namespace

Runtime::~Runtime() {
  for (const auto& clear : kept_) clear();
}

void Runtime::keep(std::function<void()> clear) {
  constexpr size_t kCost = 512;  // about what a scope or a namespace takes
  budget_.work(kCost);
  kept_.push_back(std::move(clear));
}

Value Runtime::text(Text text) {
  budget_.text(text.size());
  return Value::text(std::move(text));
}

Value Runtime::text(std::string_view trusted) { return text(Text(std::string(trusted), true)); }

Value Runtime::list(Values items) {
  budget_.text(items.size() * sizeof(Value));
  return Value::list(std::move(items));
}

Value Runtime::tuple(Values items) {
  budget_.text(items.size() * sizeof(Value));
  return Value::tuple(std::move(items));
}

const Value* find_global(std::string_view name) {
  static const std::map<std::string_view, Value> kGlobals = [] {
    std::map<std::string_view, Value> out;
    const std::pair<std::string_view, Function> functions[] = {
        {"range", make_range},          {"dict", make_dict},
        {"namespace", make_namespace},  {"raise_exception", raise_exception},
        {"strftime_now", strftime_now}, {"joiner", make_joiner},
        {"cycler", make_cycler},
    };
    for (const auto& [name, function] : functions) {
      out.emplace(name, Value::object(std::make_shared<Builtin>(std::string(name), function)));
    }
    return out;
  }();
  const auto found = kGlobals.find(name);
  return found == kGlobals.end() ? nullptr : &found->second;
}

void set_attribute(Runtime&, const Value& target, const std::string& name, Value value) {
  require_defined(target);
  const auto scope = target.is_object() ? std::dynamic_pointer_cast<Namespace>(target.as_object()) : nullptr;
  if (!scope) fail("cannot assign attribute on non-namespace object");
  scope->set(name, std::move(value));
}

}  // namespace llamita::jinja
