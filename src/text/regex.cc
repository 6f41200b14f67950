#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/cat.h"
#include "llamita/error.h"

namespace llamita {

namespace {

// Enough for a pattern that walks some 100 MiB of text once, too little to hang a server on a hostile one.
constexpr uint32_t kMatchLimit = 10'000'000;
constexpr uint32_t kHeapLimitKib = 64 << 10;
constexpr size_t kJitStackBytes = 4 << 20;
constexpr size_t kMaxPatternBytes = 64 << 10;

struct Free {
  void operator()(pcre2_code* p) const { pcre2_code_free(p); }
  void operator()(pcre2_compile_context* p) const { pcre2_compile_context_free(p); }
  void operator()(pcre2_match_context* p) const { pcre2_match_context_free(p); }
  void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
  void operator()(pcre2_jit_stack* p) const { pcre2_jit_stack_free(p); }
};
template <class T>
using Handle = std::unique_ptr<T, Free>;

// What a match needs besides the expression; one for each thread, because it is costly to make.
struct Workspace {
  Handle<pcre2_jit_stack> stack{pcre2_jit_stack_create(32 << 10, kJitStackBytes, nullptr)};
  Handle<pcre2_match_context> context{pcre2_match_context_create(nullptr)};
  Handle<pcre2_match_data> data{pcre2_match_data_create(1, nullptr)};

  Workspace() {
    if (!stack || !context || !data) throw Error("out of memory for a regular expression's workspace");
    pcre2_set_match_limit(context.get(), kMatchLimit);
    pcre2_set_heap_limit(context.get(), kHeapLimitKib);
    pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
  }
};

Workspace& workspace() {
  thread_local Workspace space;
  return space;
}

std::string message_of(int code) {
  PCRE2_UCHAR buffer[256];
  if (pcre2_get_error_message(code, buffer, sizeof buffer) < 0) return cat("error ", code);
  return reinterpret_cast<const char*>(buffer);
}

// PCRE2's own \s lacks nothing but has U+180E, which left White_Space in Unicode 6.3.
constexpr std::string_view kSpaces =
    R"(\t-\r\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";

// `source` with \s and \S spelled out. Inside a class \S cannot be, and stays PCRE2's.
std::string with_exact_spaces(std::string_view source) {
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < source.size(); ++i) {
    const char c = source[i];
    if (c == '\\' && i + 1 < source.size()) {
      const char next = source[++i];
      if (next == 's') {
        out.append(in_class ? std::string(kSpaces) : cat("[", kSpaces, "]"));
      } else if (next == 'S' && !in_class) {
        out.append(cat("[^", kSpaces, "]"));
      } else {
        out.push_back(c);
        out.push_back(next);
      }
      continue;
    }
    if (c == '[' && !in_class) {
      in_class = true;
      // A ']' that comes first is a member of the class.
      out.push_back(c);
      if (i + 1 < source.size() && source[i + 1] == '^') out.push_back(source[++i]);
      if (i + 1 < source.size() && source[i + 1] == ']') out.push_back(source[++i]);
      continue;
    }
    if (c == ']') in_class = false;
    out.push_back(c);
  }
  return out;
}

}  // namespace

struct Regex::Code {
  Handle<pcre2_code> code;
};

Regex::Regex(const std::string& source, const std::string& where) : where_(where) {
  const Handle<pcre2_compile_context> context(pcre2_compile_context_create(nullptr));
  pcre2_set_max_pattern_length(context.get(), kMaxPatternBytes);
  const std::string exact = with_exact_spaces(source);
  int error = 0;
  size_t offset = 0;
  const uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
  Handle<pcre2_code> code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(exact.data()), exact.size(), options,
                                        &error, &offset, context.get()));
  if (!code) {
    throw Error(cat(where, ": the regular expression \"", source.substr(0, 200),
                    "\" cannot be compiled: ", message_of(error), " (near offset ", offset, ")"));
  }
  pcre2_jit_compile(code.get(),
                    PCRE2_JIT_COMPLETE);  // without the JIT the interpreter gives the same matches
  code_ = std::make_unique<const Code>(Code{std::move(code)});
}

Regex::~Regex() = default;

bool Regex::search(std::string_view text, size_t from, Match& match) const {
  Workspace& space = workspace();
  const int result = pcre2_match(code_->code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                 from, PCRE2_NO_UTF_CHECK, space.data.get(), space.context.get());
  if (result == PCRE2_ERROR_NOMATCH) return false;
  if (result < 0) {
    throw Error(cat(where_, ": the regular expression gave up on a text of ", text.size(),
                    " bytes: ", message_of(result), "; send the text in smaller pieces"));
  }
  const size_t* ends = pcre2_get_ovector_pointer(space.data.get());
  match = {ends[0], ends[1]};
  return true;
}

}  // namespace llamita
