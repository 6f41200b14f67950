#include "text/jinja/loop.h"

#include <algorithm>

namespace llamita::jinja {

class LoopMethod : public Object {
 public:
  LoopMethod(std::shared_ptr<Loop> loop, bool cycles) : loop_(std::move(loop)), cycles_(cycles) {}
  std::string type_name() const override { return "method"; }
  bool callable() const override { return true; }
  Value call(Runtime& runtime, const CallArgs& args) override {
    return cycles_ ? loop_->cycle(args) : loop_->changed(runtime, args);
  }
  int depth() const override { return loop_->depth() + 1; }

 private:
  std::shared_ptr<Loop> loop_;
  bool cycles_;
};

Loop::Loop(std::shared_ptr<const Values> items, int64_t depth0, Recurse recurse)
    : items_(std::move(items)), depth0_(depth0), recurse_(std::move(recurse)) {
  for (const Value& item : *items_) depth_ = std::max(depth_, item.depth() + 1);
}

std::optional<Value> Loop::attribute(Runtime&, std::string_view name) {
  const auto size = static_cast<int64_t>(items_->size());
  const auto item = [&](int64_t i) { return (*items_)[static_cast<size_t>(i)]; };
  if (name == "index") return Value::integer(index0_ + 1);
  if (name == "index0") return Value::integer(index0_);
  if (name == "first") return Value::boolean(index0_ == 0);
  if (name == "last") return Value::boolean(index0_ + 1 == size);
  if (name == "length") return Value::integer(size);
  if (name == "revindex") return Value::integer(size - index0_);
  if (name == "revindex0") return Value::integer(size - index0_ - 1);
  if (name == "depth") return Value::integer(depth0_ + 1);
  if (name == "depth0") return Value::integer(depth0_);
  if (name == "previtem")
    return index0_ > 0 ? item(index0_ - 1) : Value::undefined("there is no previous item");
  if (name == "nextitem") {
    return index0_ + 1 < size ? item(index0_ + 1) : Value::undefined("there is no next item");
  }
  if (name == "cycle" || name == "changed") {
    return Value::object(std::make_shared<LoopMethod>(shared_from_this(), name == "cycle"));
  }
  return std::nullopt;
}

Value Loop::call(Runtime&, const CallArgs& args) {
  if (!recurse_) fail("The loop must have the 'recursive' marker to be called recursively.");
  if (args.positional.size() != 1 || !args.keyword.empty())
    fail("loop() takes one argument, the inner items");
  return recurse_(args.positional[0], depth0_ + 1);
}

Value Loop::cycle(const CallArgs& args) const {
  if (args.positional.empty() || !args.keyword.empty()) fail("no items for cycling given");
  return args.positional[static_cast<size_t>(index0_) % args.positional.size()];
}

Value Loop::changed(Runtime& runtime, const CallArgs& args) {
  const Values& now = args.positional;
  if (!last_changed_) {
    // What is remembered may hold this very loop.
    runtime.keep([self = shared_from_this()] { self->last_changed_.reset(); });
  } else if (equal(runtime, Value::tuple(*last_changed_), Value::tuple(now))) {
    return Value::boolean(false);
  }
  last_changed_ = now;
  return Value::boolean(true);
}

}  // namespace llamita::jinja
