// How one request's tokens are chosen. The defaults sample from the model's own distribution.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace llamita {

// A form that the reply is held to, token by token. What is written is of that form when the reply ends with
// FinishReason::stop, unless one of `stop` or `stop_token_ids` cut it short. A form that allows nothing more
// ends the reply.
struct Constraint {
  enum class Kind { none, json_object, json_schema, gbnf };
  Kind kind = Kind::none;
  std::string text;  // the schema (JSON) or the grammar
};

struct SamplingParams {
  float temperature = 1.0f;  // 0: always the most probable token; at most 100
  int top_k = 0;             // keep the k most probable tokens; 0: all
  float top_p = 1.0f;        // then the fewest tokens whose probabilities reach p; (0, 1]
  float min_p = 0.0f;        // then those at least min_p times as probable as the first; [0, 1]

  // Over the tokens seen so far: repetition divides positive logits and multiplies negative ones (prompt and
  // reply, Keskar et al. 2019); frequency subtracts per occurrence and presence once (reply only, as OpenAI's
  // API has it).
  float repetition_penalty = 1.0f;  // > 0
  float frequency_penalty = 0.0f;   // [-2, 2]
  float presence_penalty = 0.0f;    // [-2, 2]
  static constexpr size_t kMostBiases = 4096;
  std::vector<std::pair<int32_t, float>> logit_bias;  // token id, added to its logit; [-100, 100]

  // Random numbers are counter-based, keyed by (seed, choice, position): the same seed gives the same tokens
  // whatever else is in the batch. Without a seed one is drawn from the system and reported in the
  // completion.
  std::optional<uint64_t> seed;

  int max_tokens = -1;                  // of the reply; -1: until the context is full
  std::vector<std::string> stop;        // the reply ends before the first of these, also across token borders
  std::vector<int32_t> stop_token_ids;  // in addition to the model's own
  bool ignore_eos = false;              // only max_tokens, stop and stop_token_ids end the reply
  int logprobs = -1;  // alternatives reported for each token (0: only the chosen one's); -1: none; at most 20
  Constraint constraint = {};
  int n = 1;  // independent replies to one prompt; at most 128
};

}  // namespace llamita
