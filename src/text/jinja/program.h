// Program: a parsed template, ready to be rendered any number of times, by several threads at once.
#pragma once

#include <ctime>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/value.h"

namespace llamita::jinja {

class Program {
 public:
  // Throws llamita::Error with line and column.
  explicit Program(std::string_view source);

  // `now` is the local time that strftime_now() shows. Throws llamita::Error with the line.
  Text render(std::vector<std::pair<std::string, Value>> variables, const std::tm& now) const;

 private:
  Body body_;
};

}  // namespace llamita::jinja
