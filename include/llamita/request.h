// What is asked of a model and what comes back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "llamita/error.h"
#include "llamita/sampling_params.h"

namespace llamita {

// A call of a tool, in an assistant's message.
struct ToolCall {
  std::string id;
  std::string name;
  std::string arguments;  // JSON text of an object
};

// An image in a prompt: a whole PNG, JPEG or WebP file, for models that take images.
struct Picture {
  std::shared_ptr<const std::string> file;
  size_t at = 0;  // it stands before this byte of the text it belongs to
};

struct Message {
  std::string role;  // "system", "user", "assistant" or "tool"
  std::string content;
  std::vector<ToolCall> tool_calls = {};  // of an assistant
  std::string tool_call_id = {};          // of a tool: the call it answers
  std::string name = {};                  // of the speaker or tool, where templates show it
  std::vector<Picture> pictures = {};     // in order of `at`
};

// A conversation, rendered with the model's chat template; message text never becomes control tokens.
using Conversation = std::vector<Message>;

// What a conversation's template is given beside the messages.
struct ChatOptions {
  std::string tools;               // JSON text of OpenAI's array of tools; empty: none
  std::string template_variables;  // JSON text of an object: enable_thinking, …; empty: none
  bool continue_last = false;      // the reply goes on with the last message instead of beginning a new one
  bool call_forced = false;  // the constraint makes the reply a call: the template need not show the tools
};

struct Request {
  // Plain text to continue, a conversation to answer, or token ids to continue as they are.
  std::variant<std::string, Conversation, std::vector<int32_t>> prompt;
  SamplingParams sampling;
  ChatOptions chat = {};               // for a conversation
  bool embedding = false;              // no reply: the completion carries the prompt's embedding
  std::vector<Picture> pictures = {};  // of a prompt that is plain text, in order of `at`
};

enum class FinishReason { stop, length, cancelled, error, deadline };
const char* name(FinishReason reason);

struct TokenLogprob {
  int32_t token = 0;
  std::string text;
  float logprob = 0;       // natural logarithm, of the model's distribution before temperature and filters
  std::string bytes = {};  // what `text` stands for: a part of a character, where the token is one
};

struct TokenInfo {
  TokenLogprob chosen;
  std::vector<TokenLogprob> top;  // most probable first
};

// Choice::error_code of a reply whose constraint took more work than a step may.
inline constexpr const char* kGrammarTooCostly = "grammar_too_costly";
// … of one whose prompt is longer than the context.
inline constexpr const char* kContextLengthExceeded = "context_length_exceeded";
// What is thrown where the work shows before the reply begins.
class GrammarTooCostly : public Error {
 public:
  using Error::Error;
};

struct Choice {
  std::string text;
  std::vector<int32_t> tokens;  // including the token that ended the reply, if one did
  FinishReason finish = FinishReason::length;
  std::string error;                // why, when finish is error, …
  std::string error_code = {};      // … and for programs, where it has a name: one of those above
  std::vector<TokenInfo> logprobs;  // one a token, when asked for
};

struct Completion {
  std::vector<Choice> choices;  // sampling.n of them
  int prompt_tokens = 0;
  int completion_tokens = 0;  // over all choices
  int cached_tokens = 0;      // of the prompt: taken from the prefix cache
  uint64_t seed = 0;          // the one that was used
  double queue_seconds = 0;   // from submission to the first step that had part of it
  double prefill_seconds = 0;
  double decode_seconds = 0;
  std::vector<float> embedding = {};  // (hidden): the last token's final-norm state, of L2 norm 1
};

// One step's news of one choice, for streaming. The texts of a choice's deltas concatenate to Choice::text.
struct Delta {
  int request = 0;
  int choice = 0;
  std::string text;  // whole UTF-8 characters; may be empty
  std::vector<TokenInfo> logprobs;
  bool finished = false;
  FinishReason finish = FinishReason::length;  // when finished
};

}  // namespace llamita
