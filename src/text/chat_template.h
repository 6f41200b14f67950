// ChatTemplate: a conversation to a prompt, by the model's own Jinja template, run by a sandboxed interpreter
// with depth, step and output budgets. The prompt comes as pieces: what the template says is trusted, what
// messages say is not, so a user who types "<|im_end|>" sends ten characters and ends nothing.
#pragma once

#include <cstdint>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/json.h"
#include "text/piece.h"

namespace llamita {

namespace jinja {
class Program;
}

class ChatTemplate {
 public:
  struct Options {
    bool add_generation_prompt = true;
    std::string bos_token;  // text of the special tokens, visible to the template
    std::string eos_token;
    Json tools;  // array, or null for none
    // Further template variables (enable_thinking, date_string, …); their text is untrusted, and they cannot
    // take the place of a variable above.
    Json::Object extra;
    std::optional<std::time_t> now;  // what strftime_now() shows, in local time; the clock when not set
  };

  // Of what a template writes, in bytes; messages with more text cannot be rendered.
  static constexpr size_t kMostText = size_t{4} << 20;

  // Throws Error with line and column when the source is no template this interpreter can run.
  explicit ChatTemplate(std::string_view source);
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;

  // `messages` is OpenAI's array: objects with role, content (string or parts), tool_calls, ... Adjacent
  // pieces of the same trust are joined; their concatenated text equals what Jinja2 in Hugging Face's
  // environment prints. Throws Error for a template's raise_exception, for undefined operations and for a
  // spent budget. Thread-safe.
  std::vector<Piece> render(const Json& messages, const Options& options) const;

 private:
  std::unique_ptr<const jinja::Program> program_;
};

}  // namespace llamita
