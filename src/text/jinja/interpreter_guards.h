// Guards of the interpreter: each changes one thing for as long as it lives.
#pragma once

#include <utility>

#include "text/jinja/interpreter.h"

namespace llamita::jinja {

class Interpreter::Level {
 public:
  Level(Interpreter& owner, int line) : owner_(owner) {
    owner.line_ = line;
    owner.runtime_.budget().step();
    if (owner.depth_ >= kMaxEvalDepth)
      fail("macros and loops call each other deeper than the limit of ", kMaxEvalDepth);
    ++owner.depth_;
  }
  ~Level() { --owner_.depth_; }
  Level(const Level&) = delete;
  Level& operator=(const Level&) = delete;

 private:
  Interpreter& owner_;
};

class Interpreter::InScope {
 public:
  InScope(Interpreter& owner, ScopePtr scope)
      : owner_(owner), saved_(std::exchange(owner.scope_, std::move(scope))) {}
  ~InScope() { owner_.scope_ = std::move(saved_); }
  InScope(const InScope&) = delete;
  InScope& operator=(const InScope&) = delete;

 private:
  Interpreter& owner_;
  ScopePtr saved_;
};

class Interpreter::Captured {
 public:
  explicit Captured(Interpreter& owner) : owner_(owner), saved_(std::exchange(owner.out_, &text_)) {}
  ~Captured() { owner_.out_ = saved_; }
  Captured(const Captured&) = delete;
  Captured& operator=(const Captured&) = delete;

  Text take() { return std::move(text_); }

 private:
  Interpreter& owner_;
  Text* saved_;
  Text text_;
};

}  // namespace llamita::jinja
