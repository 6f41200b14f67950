// Scopes: what names mean. A set statement writes to the innermost scope; loops, macros and captured bodies
// open new ones, an if does not.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace llamita::jinja {

class Scope {
 public:
  explicit Scope(std::shared_ptr<const Scope> parent) : parent_(std::move(parent)) {}

  void set(const std::string& name, Value value) {
    for (auto& entry : names_) {
      if (entry.first == name) {
        entry.second = std::move(value);
        return;
      }
    }
    names_.emplace_back(name, std::move(value));
  }

  // Looks here and then outwards; nullptr when nobody knows the name.
  const Value* find(std::string_view name) const {
    for (const Scope* scope = this; scope; scope = scope->parent_.get()) {
      for (const auto& entry : scope->names_) {
        if (entry.first == name) return &entry.second;
      }
    }
    return nullptr;
  }

  void clear() { names_.clear(); }

 private:
  std::vector<std::pair<std::string, Value>> names_;  // few: a scan beats a hash
  std::shared_ptr<const Scope> parent_;
};

}  // namespace llamita::jinja
