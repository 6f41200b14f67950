#include "engine/validate.h"

#include <string_view>

#include "base/cat.h"
#include "llamita/request_error.h"

namespace llamita {

namespace {

constexpr size_t kMaxStops = 64;
constexpr size_t kMaxStopBytes = 1024;
constexpr int kMaxLogprobs = 20;

// Written so that NaN fails.
template <class Number>
void require_range(std::string_view option, Number value, Number low, Number high) {
  if (value >= low && value <= high) return;
  throw Error(cat(option, " must be between ", low, " and ", high, ", not ", value));
}

void require_token(std::string_view option, int32_t token, int32_t vocab_size) {
  if (token >= 0 && token < vocab_size) return;
  throw Error(cat(option, " names token ", token, ", but the vocabulary has ids 0 to ", vocab_size - 1));
}

void validate_stops(const SamplingParams& params, int32_t vocab_size) {
  if (params.stop.size() > kMaxStops) {
    throw Error(cat("stop has ", params.stop.size(), " strings; at most ", kMaxStops, " are taken"));
  }
  for (const std::string& stop : params.stop) {
    if (stop.empty() || stop.size() > kMaxStopBytes) {
      throw Error(cat("a stop string must have 1 to ", kMaxStopBytes, " bytes, not ", stop.size()));
    }
    if ((static_cast<unsigned char>(stop[0]) & 0xC0) == 0x80) {
      throw Error("a stop string begins in the middle of a UTF-8 character");
    }
  }
  for (const int32_t token : params.stop_token_ids) require_token("stop_token_ids", token, vocab_size);
}

}  // namespace

void validate(const SamplingParams& params, int32_t vocab_size) {
  require_range("temperature", params.temperature, 0.0f, 100.0f);
  require_range("top_k", params.top_k, 0, INT32_MAX);
  if (!(params.top_p > 0.0f && params.top_p <= 1.0f)) {
    throw Error(cat("top_p must be above 0 and at most 1, not ", params.top_p));
  }
  require_range("min_p", params.min_p, 0.0f, 1.0f);
  if (!(params.repetition_penalty > 0.0f && params.repetition_penalty <= 100.0f)) {
    throw Error(cat("repetition_penalty must be above 0 and at most 100, not ", params.repetition_penalty));
  }
  require_range("frequency_penalty", params.frequency_penalty, -2.0f, 2.0f);
  require_range("presence_penalty", params.presence_penalty, -2.0f, 2.0f);
  if (params.logit_bias.size() > SamplingParams::kMostBiases) {
    throw Error(cat("logit_bias has ", params.logit_bias.size(), " tokens; at most ",
                    SamplingParams::kMostBiases, " are taken"));
  }
  for (const auto& [token, bias] : params.logit_bias) {
    require_token("logit_bias", token, vocab_size);
    require_range("logit_bias", bias, -100.0f, 100.0f);
  }
  if (params.max_tokens < -1) {
    throw Error(cat("max_tokens must be -1 (until the context is full) or more, not ", params.max_tokens));
  }
  require_range("logprobs", params.logprobs, -1, kMaxLogprobs);
  require_range("n", params.n, 1, kMaxChoices);
  validate_stops(params, vocab_size);
}

void validate_length(size_t tokens, int context) {
  if (tokens < static_cast<size_t>(context)) return;
  throw RequestError(
      RequestError::Fault::prompt_size,
      cat("the prompt has ", tokens, " tokens, and at most ", context - 1, " are taken with a context of ",
          context, ": shorten it, or load the model with a larger context (--context)"));
}

void validate_prompt(std::span<const int32_t> prompt, std::span<const ImageSpan> images, int32_t vocab_size,
                     int context) {
  if (prompt.empty()) {
    throw RequestError(RequestError::Fault::prompt, "the prompt has no tokens: give at least one character");
  }
  size_t at = 0;
  const auto require_words = [&](size_t end) {
    for (; at < end; ++at) require_token("the prompt", prompt[at], vocab_size);
  };
  for (const ImageSpan& image : images) {
    require_words(static_cast<size_t>(image.begin));
    at = static_cast<size_t>(image.end);
  }
  require_words(prompt.size());
  validate_length(prompt.size(), context);
}

}  // namespace llamita
