// libedit goes on reading when a signal arrives, so characters come through a function of our own that waits
// for input and for Ctrl-C together.
#include "cli/line_reader.h"

#include <histedit.h>
#include <langinfo.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstring>
#include <cwchar>

#include "base/cat.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "llamita/error.h"

namespace llamita::cli {

namespace {

constexpr char kPromptEscape = '\1';  // brackets what takes no room on the screen
constexpr int kHistoryLines = 500;

// libedit converts between bytes and characters by the locale, which may be the plain C one in a container.
void use_utf8_locale() {
  std::setlocale(LC_CTYPE, "");
  if (std::strcmp(::nl_langinfo(CODESET), "UTF-8") != 0) std::setlocale(LC_CTYPE, "C.UTF-8");
}

}  // namespace

struct LineReader::State {
  EditLine* edit = nullptr;
  History* history = nullptr;
  std::string prompt;
  bool interrupted = false;
  bool interrupted_empty = false;
  const InterruptScope* scope = nullptr;  // while a line is read

  // 1 byte into `byte`; 0 at the end; -1 when interrupted.
  int read_byte(unsigned char& byte) {
    for (;;) {
      pollfd sources[] = {{STDIN_FILENO, POLLIN, 0}, {scope->descriptor(), POLLIN, 0}};
      if (::poll(sources, 2, -1) < 0 && errno != EINTR) return 0;
      if (scope->interrupted()) return -1;
      if (sources[0].revents == 0) continue;
      const ssize_t count = ::read(STDIN_FILENO, &byte, 1);
      if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      return count == 1 ? 1 : 0;
    }
  }

  static State& of(EditLine* edit) {
    void* data = nullptr;
    ::el_get(edit, EL_CLIENTDATA, &data);
    return *static_cast<State*>(data);
  }

  // One character for libedit, decoded here: 1, 0 at the end of input, -1 when interrupted.
  static int read_character(EditLine* edit, wchar_t* out) {
    State& state = of(edit);
    std::mbstate_t conversion = {};
    for (;;) {
      unsigned char byte = 0;
      const int got = state.read_byte(byte);
      if (got < 0) {
        const LineInfo* info = ::el_line(edit);
        state.interrupted = true;
        state.interrupted_empty = info->lastchar == info->buffer;
        errno = EINTR;
      }
      if (got != 1) return got;
      const char c = static_cast<char>(byte);
      const size_t used = std::mbrtowc(out, &c, 1, &conversion);
      if (used == static_cast<size_t>(-2)) continue;  // more bytes of this character are to come
      if (used == static_cast<size_t>(-1)) *out = L'\xFFFD';
      return 1;
    }
  }

  static char* show_prompt(EditLine* edit) { return of(edit).prompt.data(); }
};

LineReader::LineReader() : state_(std::make_unique<State>()) {
  use_utf8_locale();
  State& state = *state_;
  state.edit = ::el_init("llamita", stdin, stdout, stderr);
  if (state.edit == nullptr)
    throw Error("the terminal cannot be used for line editing; pipe the prompt in instead");
  ::el_set(state.edit, EL_CLIENTDATA, &state);
  ::el_set(state.edit, EL_PROMPT_ESC, State::show_prompt, kPromptEscape);
  ::el_set(state.edit, EL_EDITOR, "emacs");
  ::el_set(state.edit, EL_SIGNAL, 0);
  ::el_set(state.edit, EL_GETCFN, State::read_character);
  state.history = ::history_init();
  if (state.history != nullptr) {
    HistEvent event;
    ::history(state.history, &event, H_SETSIZE, kHistoryLines);
    ::history(state.history, &event, H_SETUNIQUE, 1);
    ::el_set(state.edit, EL_HIST, ::history, state.history);
  }
}

LineReader::~LineReader() {
  if (state_->edit != nullptr) ::el_end(state_->edit);
  if (state_->history != nullptr) ::history_end(state_->history);
}

LineReader::Outcome LineReader::read(const std::string& prompt, std::string& line) {
  State& state = *state_;
  const Paint paint = stdout_paint();
  // libedit ties a closing escape to the character after it, so the prompt's last character stays plain.
  const auto escape = [](const char* code) { return cat(kPromptEscape, code, kPromptEscape); };
  const size_t bold = prompt.size() - 1;
  state.prompt = paint.on ? cat(escape("\033[1m"), prompt.substr(0, bold), escape("\033[0m"), prompt.substr(bold))
                          : prompt;
  state.interrupted = false;
  const InterruptScope scope;
  state.scope = &scope;
  ::el_resize(state.edit);  // the window may have another size than at the last line
  int count = 0;
  const char* text = ::el_gets(state.edit, &count);
  line.assign(text != nullptr && count > 0 ? text : "");
  state.scope = nullptr;
  if (state.interrupted) {
    ::el_reset(state.edit);
    std::fputs("^C\n", stdout);
    return Outcome::interrupted;
  }
  if (text == nullptr || count <= 0) return Outcome::end;
  while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.pop_back();
  return Outcome::line;
}

bool LineReader::interrupted_empty() const { return state_->interrupted_empty; }

void LineReader::remember(const std::string& line) {
  HistEvent event;
  if (state_->history != nullptr) ::history(state_->history, &event, H_ENTER, line.c_str());
}

}  // namespace llamita::cli
