// Tokens of a template, and the lexer that makes them with Hugging Face's settings: trim_blocks (the newline
// after a block tag goes) and lstrip_blocks (the indentation before one goes).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace llamita::jinja {

struct Token {
  enum class Kind {
    data,
    output_begin,
    output_end,
    block_begin,
    block_end,
    name,
    text,
    integer,
    real,
    op,
    end
  };
  Kind kind;
  std::string text;  // data, name, the string's value, the operator
  int64_t integer = 0;
  double real = 0;
  int line = 1;
  int column = 1;
};

// "line 3, column 7: message" as Failure.
[[noreturn]] void fail_at(int line, int column, std::string_view message);

// The whole template as tokens, Kind::end last. Fails with line and column.
std::vector<Token> tokenize(std::string_view source);

// The value of a string literal without its quotes.
std::string unescape(std::string_view literal, int line, int column);

}  // namespace llamita::jinja
