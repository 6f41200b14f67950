#include "server/api/reply_format.h"

#include <cmath>
#include <random>

#include "base/cat.h"
#include "server/api/chat_format.h"
#include "server/api/completion_format.h"
#include "server/api/embedding_format.h"

namespace llamita::server {

std::string event(const Json& json) { return cat("data: ", json.dump(), "\n\n"); }

bool never_begun(const Completion& done) {
  return done.queue_seconds == 0 && done.choices.front().finish == FinishReason::deadline;
}

Json usage_json(const std::vector<Completion>& done) {
  int64_t prompt = 0, reply = 0, cached = 0;
  for (const Completion& completion : done) {
    prompt += completion.prompt_tokens;
    reply += completion.completion_tokens;
    cached += completion.cached_tokens;
  }
  return Json(Json::Object{{"prompt_tokens", Json(prompt)},
                           {"completion_tokens", Json(reply)},
                           {"total_tokens", Json(prompt + reply)},
                           {"prompt_tokens_details", Json(Json::Object{{"cached_tokens", Json(cached)}})}});
}

std::string finish_name(FinishReason reason, bool called_tools) {
  if (reason == FinishReason::stop) return called_tools ? "tool_calls" : "stop";
  return "length";
}

namespace {

// JSON has no infinity; a token that was impossible has this.
double finite(float logprob) { return std::isfinite(logprob) ? double{logprob} : -9999.0; }

Json::Object entry_json(const TokenLogprob& entry) {
  Json::Array bytes;
  for (const char c : entry.bytes.empty() ? entry.text : entry.bytes)
    bytes.push_back(Json(int64_t{static_cast<unsigned char>(c)}));
  return {{"token", Json(entry.text)},
          {"logprob", Json(finite(entry.logprob))},
          {"bytes", Json(std::move(bytes))}};
}

}  // namespace

Json token_json(const TokenInfo& info) {
  Json::Object out = entry_json(info.chosen);
  Json::Array top;
  for (const TokenLogprob& entry : info.top) top.push_back(Json(entry_json(entry)));
  out.emplace_back("top_logprobs", Json(std::move(top)));
  return Json(std::move(out));
}

std::string base64(const unsigned char* data, size_t size) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((size + 2) / 3 * 4);
  for (size_t at = 0; at < size; at += 3) {
    const auto byte = [&](size_t i) { return at + i < size ? uint32_t{data[at + i]} : 0u; };
    const uint32_t group = byte(0) << 16 | byte(1) << 8 | byte(2);
    for (size_t i = 0; i < 4; ++i) {
      out += at + i <= size ? kDigits[group >> (18 - 6 * i) & 63] : '=';
    }
  }
  return out;
}

std::string random_id(const char* prefix) {
  constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  thread_local std::mt19937_64 random{std::random_device{}()};
  std::uniform_int_distribution<size_t> letter(0, kLetters.size() - 1);
  std::string id = prefix;
  for (int i = 0; i < 24; ++i) id += kLetters[letter(random)];
  return id;
}

std::unique_ptr<ReplyFormat> make_format(const GenerationRequest& request, ReplyHeader header,
                                         std::vector<std::string> echoes) {
  switch (request.endpoint) {
    case Endpoint::chat: return std::make_unique<ChatFormat>(request, std::move(header));
    case Endpoint::completions:
      return std::make_unique<CompletionFormat>(request, std::move(header), std::move(echoes));
    case Endpoint::embeddings: break;
  }
  return std::make_unique<EmbeddingFormat>(request, std::move(header));
}

}  // namespace llamita::server
