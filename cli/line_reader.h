// Reading lines at a terminal with editing and history (libedit).
#pragma once

#include <memory>
#include <string>

namespace llamita::cli {

class LineReader {
 public:
  enum class Outcome { line, interrupted, end };

  // Standard input and output must be terminals.
  LineReader();
  ~LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  // One line without its newline, as UTF-8. `prompt` ends in a space. `interrupted` is Ctrl-C (whatever was typed is dropped), `end`
  // Ctrl-D on an empty line or a terminal that went away.
  Outcome read(const std::string& prompt, std::string& line);
  // Whether the line that the last `interrupted` dropped was empty.
  bool interrupted_empty() const;
  // Lines that were entered come back with the arrow keys.
  void remember(const std::string& line);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace llamita::cli
