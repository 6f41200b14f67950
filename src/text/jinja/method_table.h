// A method of a built-in type: its name and what it does. Looking one up is a scan of a small table.
#pragma once

#include <span>
#include <string_view>

#include "text/jinja/runtime.h"

namespace llamita::jinja {

struct Method {
  std::string_view name;
  Value (*run)(Runtime&, const Value& self, const CallArgs&);
};

std::span<const Method> string_methods();

}  // namespace llamita::jinja
