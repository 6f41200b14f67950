#include "engine/reply.h"

#include <algorithm>

namespace llamita {

namespace {

bool penalises(const SamplingParams& params) {
  return params.repetition_penalty != 1.0f || params.frequency_penalty != 0.0f ||
         params.presence_penalty != 0.0f;
}

}  // namespace

std::string token_display(const Tokenizer& tokenizer, int32_t token) {
  const std::string_view bytes = tokenizer.token_bytes(token);
  if (bytes.empty()) return std::string(tokenizer.token_text(token));
  const int32_t ids[] = {token};
  std::string text = tokenizer.decode(ids, false);
  if (tokenizer.strips_leading_space() && bytes.front() == ' ') text.insert(0, 1, ' ');
  return text;
}

Reply::Reply(const Tokenizer& tokenizer, const ReplyRules& rules, int choice,
             const std::vector<int32_t>& prompt)
    : tokenizer_(tokenizer),
      rules_(rules),
      index_(choice),
      position_(prompt.size()),
      detokenizer_(tokenizer),
      stops_(rules.params->stop) {
  if (rules.form != nullptr) {
    matcher_.emplace(rules.form);
    allowed_.resize(matcher_->mask_words());
    matcher_->fill_mask(allowed_);
  }
  if (!penalises(*rules.params)) return;
  for (const int32_t token : prompt) count(token, 0);
}

void Reply::count(int32_t token, int in_reply) {
  if (token >= tokenizer_.vocab_size()) return;  // padding ids can be in a prompt and are never chosen
  const auto [found, is_new] = seen_at_.try_emplace(token, seen_.size());
  if (is_new) seen_.push_back({token, 0});
  seen_[found->second].in_reply += in_reply;
}

SamplingRow Reply::sampling_row() const {
  const SamplingParams& params = *rules_.params;
  SamplingRow row;
  row.temperature = params.temperature;
  row.top_k = params.top_k;
  row.top_p = params.top_p;
  row.min_p = params.min_p;
  row.repetition_penalty = params.repetition_penalty;
  row.frequency_penalty = params.frequency_penalty;
  row.presence_penalty = params.presence_penalty;
  row.logit_bias = params.logit_bias;
  row.seen = seen_;
  row.seed = rules_.seed;
  row.choice = static_cast<uint32_t>(index_);
  row.position = position_;
  row.logprobs = params.logprobs;
  row.allowed = allowed_;
  return row;
}

TokenInfo Reply::describe(const SampledToken& sampled) const {
  const auto entry = [&](int32_t token, float logprob) {
    const std::string_view bytes = tokenizer_.token_bytes(token);
    std::string text = token_display(tokenizer_, token);
    return TokenLogprob{token, text, logprob, bytes.empty() ? text : std::string(bytes)};
  };
  TokenInfo info{entry(sampled.token, sampled.logprob), {}};
  for (const auto& [token, logprob] : sampled.top) info.top.push_back(entry(token, logprob));
  return info;
}

void Reply::accept(const SampledToken& sampled, Delta& delta) {
  if (sampled.token < 0) {
    return end(FinishReason::error,
               "the model's output is not a number: its weights are broken or its format is misread", delta);
  }
  const int32_t token = sampled.token;
  choice_.tokens.push_back(token);
  ++position_;
  if (penalises(*rules_.params)) count(token, 1);
  if (rules_.params->logprobs >= 0) {
    choice_.logprobs.push_back(describe(sampled));
    delta.logprobs.push_back(choice_.logprobs.back());
  }
  if (std::binary_search(rules_.stop_tokens.begin(), rules_.stop_tokens.end(), token)) {
    return close(FinishReason::stop, delta);
  }
  delta.text += stops_.push(detokenizer_.push(token));
  choice_.text += delta.text;
  if (stops_.matched()) return close(FinishReason::stop, delta);
  if (matcher_) follow_form(token, delta);
  if (!finished_ && static_cast<int>(choice_.tokens.size()) >= rules_.room)
    close(FinishReason::length, delta);
}

// Ends the reply when its form allows nothing more.
void Reply::follow_form(int32_t token, Delta& delta) {
  // Of a form that reads one text in hundreds of ways some are dropped, and with them tokens that were
  // allowed.
  const bool accepted = matcher_->accept(token);
  if (accepted && matcher_->fill_mask(allowed_) > 0) return;
  if (!accepted || matcher_->is_too_costly()) {
    return end(FinishReason::error, grammar::Matcher::kTooCostly, delta, kGrammarTooCostly);
  }
  if (matcher_->is_finished() || matcher_->is_complete()) return close(FinishReason::stop, delta);
  end(FinishReason::error, "the model's vocabulary has no token that the reply's form could go on with",
      delta);
}

void Reply::end(FinishReason reason, std::string why, Delta& delta, std::string code) {
  choice_.error = std::move(why);
  choice_.error_code = std::move(code);
  close(reason, delta);
}

// Gives out what was held back, unless a stop string ended the reply.
void Reply::close(FinishReason reason, Delta& delta) {
  std::string rest = stops_.push(detokenizer_.finish());
  rest += stops_.finish();
  delta.text += rest;
  choice_.text += rest;
  choice_.finish = stops_.matched() ? FinishReason::stop : reason;
  delta.finished = finished_ = true;
  delta.finish = choice_.finish;
}

}  // namespace llamita
