// PromptEncoder: what a request's prompt is in tokens. Text that people wrote, alone or inside a
// conversation, never becomes control tokens; only the model's own template can say them.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "llamita/request.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace llamita {

class PromptEncoder {
 public:
  // Borrows the tokenizer. A chat template that cannot be used is reported when a conversation needs it:
  // plain text works without. `image_text`: the control token that stands for an image, "" when the model
  // takes none. `template_bytes`: a longer template cannot be used.
  explicit PromptEncoder(const Tokenizer& tokenizer, std::string image_text = "",
                         size_t template_bytes = size_t{1} << 20);

  // Plain text gets what the tokenizer adds to every text (a BOS, say); a conversation gets exactly what its
  // template wrote, which includes a BOS where the model wants one. Where a model takes images, the BOS is
  // added that its template leaves out, as transformers' processors do. Token ids stay as they are. An image
  // is one image token yet. Throws Error. Thread-safe.
  std::vector<int32_t> encode(const Request& request) const;
  // The prompt of a conversation. Messages go to the template in OpenAI's shape; the arguments of tool calls
  // as objects, as most templates want them, else as text. Throws Error when there is no usable template,
  // when it refuses the messages and for options that are not what ChatOptions says; RequestError for tools,
  // calls and results that the template would leave out, and for more text than it can write.
  std::vector<Piece> render(const Conversation& conversation, const ChatOptions& chat = {}) const;
  bool has_chat_template() const { return template_.has_value(); }
  // False when the template writes nothing of tools that it is given.
  bool takes_tools() const { return places_.tools; }
  // Why the template that the files carry cannot be used; empty when it can, and when they carry none.
  const std::string& template_error() const { return template_error_; }

 private:
  // What the template has a place for. Where it cannot be found out, each request shows.
  struct Places {
    bool tools = true, calls = true, results = true;
  };

  std::string special_text(std::optional<int32_t> token) const;
  std::vector<Piece> fill(const Conversation& conversation, const ChatOptions& chat) const;
  std::optional<bool> shows(std::string_view mark, const Conversation& conversation,
                            const ChatOptions& chat = {}) const;
  Places find_places() const;
  void require_places(const Conversation& conversation, const ChatOptions& chat) const;

  std::vector<Piece> with_pictures(const std::string& text, const std::vector<Picture>& pictures) const;

  const Tokenizer& tokenizer_;
  std::string image_text_;
  std::optional<ChatTemplate> template_;
  std::string template_error_;
  Places places_;
};

}  // namespace llamita
