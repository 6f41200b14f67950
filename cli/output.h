// Standard output that notices when nobody reads it, and text that is fit for a terminal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace llamita::cli {

// Standard output is closed: the reader of a pipe went away. The program ends quietly.
struct OutputClosed {};

// To standard output. Throws OutputClosed, or Error when writing fails for another reason (disk full).
void print(std::string_view text);
void flush_output();

// Whether standard input, output and error are terminals.
bool stdin_is_terminal();
bool stdout_is_terminal();
bool stderr_is_terminal();

// Colours, where the stream is a terminal that has them and NO_COLOR does not forbid it.
struct Paint {
  bool on = false;
  std::string bold(std::string_view text) const { return wrap("\033[1m", text); }
  std::string dim(std::string_view text) const { return wrap("\033[2m", text); }
  std::string red(std::string_view text) const { return wrap("\033[31m", text); }

 private:
  std::string wrap(std::string_view code, std::string_view text) const;
};
Paint stdout_paint();
Paint stderr_paint();

// Takes what would drive a terminal out of a model's text: escape sequences and control characters other than
// newline and tab. A sequence may be spread over several pushes.
class TerminalFilter {
 public:
  std::string push(std::string_view text);

 private:
  enum class State { text, escape, csi, string, string_escape };
  void step(unsigned char byte, std::string& out);

  State state_ = State::text;
  int length_ = 0;         // of the sequence under way
  bool after_c2_ = false;  // the first byte of a C1 control character, perhaps
};

// `text` with every byte that is no UTF-8 replaced by U+FFFD.
std::string to_utf8(std::string_view text);

// All of standard input, or of a file, at most `most` bytes: Error when there are more. Throws Error.
std::string read_stdin();
// Tells whoever sits at a terminal that standard input is being read as one prompt.
void hint_at_stdin();
std::string read_file(const std::string& path, size_t most = SIZE_MAX);

}  // namespace llamita::cli
