#include "text/jinja/program.h"

#include "llamita/error.h"
#include "text/jinja/budget.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/parser.h"
#include "text/jinja/unicode.h"

namespace llamita::jinja {

Program::Program(std::string_view source) {
  if (source.size() > kMaxSource) {
    throw Error(cat("chat template: at most ", kMaxSource, " bytes are allowed, got ", source.size()));
  }
  if (!unicode::is_valid(source)) throw Error("chat template: the source is not valid UTF-8");
  try {
    body_ = parse(source);
  } catch (const Failure& failure) {
    throw Error(cat("chat template, ", failure.what()));
  }
}

Text Program::render(std::vector<std::pair<std::string, Value>> variables, const std::tm& now) const {
  Interpreter interpreter(std::move(variables), now);
  try {
    return interpreter.run(body_);
  } catch (const Failure& failure) {
    throw Error(cat("chat template, line ", interpreter.line(), ": ", failure.what()));
  }
}

}  // namespace llamita::jinja
