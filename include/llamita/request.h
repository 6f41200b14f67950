// What is asked of a model and what comes back.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "llamita/sampling_params.h"

namespace llamita {

struct Message {
  std::string role;  // "system", "user" or "assistant"
  std::string content;
};

// A conversation, rendered with the model's chat template; message text never becomes control tokens.
using Conversation = std::vector<Message>;

struct Request {
  // Plain text to continue, a conversation to answer, or token ids to continue as they are.
  std::variant<std::string, Conversation, std::vector<int32_t>> prompt;
  SamplingParams sampling;
};

enum class FinishReason { stop, length, cancelled, error };
const char* name(FinishReason reason);

struct TokenLogprob {
  int32_t token = 0;
  std::string text;
  float logprob = 0;  // natural logarithm, of the model's distribution before temperature and filters
};

struct TokenInfo {
  TokenLogprob chosen;
  std::vector<TokenLogprob> top;  // most probable first
};

struct Choice {
  std::string text;
  std::vector<int32_t> tokens;  // including the token that ended the reply, if one did
  FinishReason finish = FinishReason::length;
  std::string error;                // why, when finish is error
  std::vector<TokenInfo> logprobs;  // one a token, when asked for
};

struct Completion {
  std::vector<Choice> choices;  // sampling.n of them
  int prompt_tokens = 0;
  int completion_tokens = 0;  // over all choices
  uint64_t seed = 0;          // the one that was used
  double prefill_seconds = 0;
  double decode_seconds = 0;
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
