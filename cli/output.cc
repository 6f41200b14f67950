#include "cli/output.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/cat.h"
#include "formats/utf8.h"
#include "llamita/error.h"

namespace llamita::cli {

namespace {

[[noreturn]] void output_failed(int error) {
  if (error == EPIPE) throw OutputClosed{};
  throw Error(cat("cannot write to standard output: ", std::strerror(error)));
}

bool environment_allows_colour() {
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  return (no_color == nullptr || *no_color == '\0') && term != nullptr && std::strcmp(term, "dumb") != 0;
}

std::string read_all(std::FILE* file, const std::string& what, size_t most = SIZE_MAX) {
  std::string text;
  char buffer[65536];
  size_t count = 0;
  // Not after the end: a terminal would be asked again.
  while (!std::feof(file) && (count = std::fread(buffer, 1, sizeof buffer, file)) > 0) {
    text.append(buffer, count);
    if (text.size() > most) throw Error(cat(what, " has more than ", most, " bytes, which is too much here"));
  }
  if (std::ferror(file)) throw Error(cat("cannot read ", what, ": ", std::strerror(errno)));
  return text;
}

}  // namespace

void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) output_failed(errno);
}

void flush_output() {
  if (std::fflush(stdout) != 0) output_failed(errno);
}

bool stdin_is_terminal() { return ::isatty(STDIN_FILENO) == 1; }
bool stdout_is_terminal() { return ::isatty(STDOUT_FILENO) == 1; }
bool stderr_is_terminal() { return ::isatty(STDERR_FILENO) == 1; }

std::string Paint::wrap(std::string_view code, std::string_view text) const {
  return on ? cat(code, text, "\033[0m") : std::string(text);
}
Paint stdout_paint() { return {stdout_is_terminal() && environment_allows_colour()}; }
Paint stderr_paint() { return {stderr_is_terminal() && environment_allows_colour()}; }

std::string TerminalFilter::push(std::string_view text) {
  std::string out;
  for (const char c : text) step(static_cast<unsigned char>(c), out);
  return out;
}

void TerminalFilter::step(unsigned char byte, std::string& out) {
  // No honest sequence is long; one that never ends must not swallow the reply.
  constexpr int kLongestSequence = 256;
  if (state_ != State::text && (++length_ > kLongestSequence || byte == '\n')) state_ = State::text;
  switch (state_) {
    case State::text: break;
    case State::escape:
      if (byte == '[') {
        state_ = State::csi;
      } else if (byte == ']' || byte == 'P' || byte == 'X' || byte == '^' || byte == '_') {
        state_ = State::string;
      } else if (byte < 0x20 || byte > 0x2F) {  // not an intermediate byte: the sequence ends here
        state_ = State::text;
      }
      return;
    case State::csi:
      if (byte >= 0x40 && byte <= 0x7E) state_ = State::text;
      return;
    case State::string:
      if (byte == 0x07) state_ = State::text;
      if (byte == 0x1B) state_ = State::string_escape;
      return;
    case State::string_escape: state_ = byte == '\\' ? State::text : State::string; return;
  }
  if (after_c2_) {  // U+0080 .. U+009F are controls; 0x9B among them begins a sequence on some terminals
    after_c2_ = false;
    if (byte >= 0x80 && byte <= 0x9F) return;
    out += '\xC2';
  }
  if (byte == 0x1B) {
    state_ = State::escape;
    length_ = 0;
  } else if (byte == 0xC2) {
    after_c2_ = true;
  } else if ((byte >= 0x20 && byte != 0x7F) || byte == '\n' || byte == '\t') {
    out += static_cast<char>(byte);
  }
}

std::string to_utf8(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const size_t length = utf8_length(text);
    out += length == 0 ? std::string_view("\xEF\xBF\xBD") : text.substr(0, length);
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return out;
}

std::string read_stdin() { return read_all(stdin, "standard input"); }

void hint_at_stdin() {
  std::fputs("llamita: reading the prompt from standard input; Ctrl-D on an empty line ends it\n", stderr);
}

std::string read_file(const std::string& path, size_t most) {
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) throw Error(cat("cannot open ", path, ": ", std::strerror(errno)));
  try {
    std::string text = read_all(file, path, most);
    std::fclose(file);
    return text;
  } catch (...) {
    std::fclose(file);
    throw;
  }
}

}  // namespace llamita::cli
