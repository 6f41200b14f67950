// Template source to syntax tree.
#pragma once

#include <string_view>

#include "text/jinja/ast.h"

namespace llamita::jinja {

// Fails with line and column for what Jinja2 would not compile and for what this interpreter does not know
// (include, import, extends, block).
Body parse(std::string_view source);

}  // namespace llamita::jinja
