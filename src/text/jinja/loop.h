// The variable `loop` inside a for statement.
#pragma once

#include <functional>
#include <memory>

#include "text/jinja/runtime.h"

namespace llamita::jinja {

class Loop : public Object, public std::enable_shared_from_this<Loop> {
 public:
  // Renders the loop's body over inner items, one level deeper; empty for a loop that is not recursive.
  using Recurse = std::function<Value(const Value& items, int64_t depth0)>;

  Loop(std::shared_ptr<const Values> items, int64_t depth0, Recurse recurse);

  void advance() { ++index0_; }

  std::string type_name() const override { return "LoopContext"; }
  std::string repr() const override { return cat("<LoopContext ", index0_ + 1, "/", items_->size(), ">"); }
  std::optional<Value> attribute(Runtime& runtime, std::string_view name) override;
  bool callable() const override { return true; }
  Value call(Runtime& runtime, const CallArgs& args) override;
  int depth() const override { return depth_; }

 private:
  friend class LoopMethod;
  Value cycle(const CallArgs& args) const;
  Value changed(Runtime& runtime, const CallArgs& args);

  std::shared_ptr<const Values> items_;
  int64_t index0_ = -1;
  int64_t depth0_;
  Recurse recurse_;
  std::optional<Values> last_changed_;
  int depth_ = 1;
};

}  // namespace llamita::jinja
