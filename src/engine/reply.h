// Reply: one choice of one request while it grows: what the sampler must know about it, its text, and when it
// ends. Independent of every other reply.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/stop_matcher.h"
#include "llamita/request.h"
#include "ops/sampling/sampling.h"
#include "text/detokenizer.h"
#include "text/grammar/matcher.h"

namespace llamita {

// What all choices of a request have in common.
struct ReplyRules {
  const SamplingParams* params = nullptr;
  uint64_t seed = 0;
  int room = 0;                              // most tokens of the reply, at least 1
  std::vector<int32_t> stop_tokens;          // sorted; they end the reply and give no text
  std::shared_ptr<grammar::MaskCache> form;  // what the reply is held to, if anything
};

class Reply {
 public:
  // Borrows tokenizer and rules. `prompt` is read here only.
  Reply(const Tokenizer& tokenizer, const ReplyRules& rules, int choice, const std::vector<int32_t>& prompt);

  // How the next token is to be chosen; valid until the next accept().
  SamplingRow sampling_row() const;
  // Takes the step's token; the news go into `delta`.
  void accept(const SampledToken& sampled, Delta& delta);
  // Ends the reply for a reason that is not in its tokens. `why` and its `code` for errors.
  void end(FinishReason reason, std::string why, Delta& delta, std::string code = {});

  bool finished() const { return finished_; }
  const Choice& choice() const { return choice_; }
  Choice take() { return std::move(choice_); }

 private:
  void count(int32_t token, int in_reply);
  TokenInfo describe(const SampledToken& sampled) const;
  void close(FinishReason reason, Delta& delta);
  void follow_form(int32_t token, Delta& delta);

  const Tokenizer& tokenizer_;
  const ReplyRules& rules_;
  int index_;
  uint64_t position_;  // of the next token
  Choice choice_;
  Detokenizer detokenizer_;
  StopMatcher stops_;
  std::vector<SeenToken> seen_;  // kept only when a penalty asks for it
  std::unordered_map<int32_t, size_t> seen_at_;
  std::optional<grammar::Matcher> matcher_;
  std::vector<uint32_t> allowed_;  // the tokens that the form allows next, one bit each
  bool finished_ = false;
};

// The text of one token alone, for logprobs: valid UTF-8, the spelling in the vocabulary for control tokens.
std::string token_display(const Tokenizer& tokenizer, int32_t token);

}  // namespace llamita
