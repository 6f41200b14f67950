#include "server/api/completion_format.h"

#include <algorithm>
#include <cmath>

namespace llamita::server {

namespace {

double finite(float logprob) { return std::isfinite(logprob) ? double{logprob} : -9999.0; }

int64_t characters(const std::string& text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

}  // namespace

CompletionFormat::CompletionFormat(const GenerationRequest& request, ReplyHeader header,
                                   std::vector<std::string> echoes)
    : header_(std::move(header)),
      n_(request.n),
      include_usage_(request.include_usage),
      logprobs_(request.logprobs),
      echoes_(std::move(echoes)),
      offsets_(request.requests.size() * static_cast<size_t>(request.n)) {}

Json::Object CompletionFormat::frame() const {
  return {{"id", Json(header_.id)},
          {"object", Json(std::string("text_completion"))},
          {"created", Json(header_.created)},
          {"model", Json(header_.model)},
          {"system_fingerprint", Json(header_.fingerprint)}};
}

Json CompletionFormat::choice(int64_t index, std::string text, Json logprobs, Json finish) const {
  return Json(Json::Object{{"text", Json(std::move(text))},
                           {"index", Json(index)},
                           {"logprobs", std::move(logprobs)},
                           {"finish_reason", std::move(finish)}});
}

Json CompletionFormat::logprobs_json(const std::vector<TokenInfo>& infos, int64_t& offset) const {
  Json::Array tokens, values, tops, offsets;
  for (const TokenInfo& info : infos) {
    tokens.push_back(Json(info.chosen.text));
    values.push_back(Json(finite(info.chosen.logprob)));
    Json::Object top;
    for (const TokenLogprob& entry : info.top) {
      const bool twice =
          std::any_of(top.begin(), top.end(), [&](const auto& old) { return old.first == entry.text; });
      if (!twice) top.emplace_back(entry.text, Json(finite(entry.logprob)));
    }
    tops.push_back(Json(std::move(top)));
    offsets.push_back(Json(offset));
    offset += characters(info.chosen.text);
  }
  return Json(Json::Object{{"tokens", Json(std::move(tokens))},
                           {"token_logprobs", Json(std::move(values))},
                           {"top_logprobs", Json(std::move(tops))},
                           {"text_offset", Json(std::move(offsets))}});
}

std::string CompletionFormat::begin() {
  std::string out;
  for (size_t i = 0; i < echoes_.size(); ++i) {
    for (int k = 0; k < n_; ++k) {
      Delta delta;
      delta.choice = k;
      delta.text = echoes_[i];
      out += update(i, delta);
    }
  }
  return out;
}

std::string CompletionFormat::update(size_t prompt, const Delta& delta) {
  if (delta.text.empty() && delta.logprobs.empty() && !delta.finished) return {};
  const size_t index = prompt * static_cast<size_t>(n_) + static_cast<size_t>(delta.choice);
  Json logprobs =
      logprobs_ && !delta.logprobs.empty() ? logprobs_json(delta.logprobs, offsets_[index]) : Json();
  Json finish = delta.finished ? Json(finish_name(delta.finish, false)) : Json();
  Json::Object out = frame();
  out.emplace_back("choices", Json(Json::Array{choice(static_cast<int64_t>(index), delta.text,
                                                      std::move(logprobs), std::move(finish))}));
  if (include_usage_) out.emplace_back("usage", Json());
  return event(Json(std::move(out)));
}

std::string CompletionFormat::end(const std::vector<Completion>& done) {
  std::string out;
  if (include_usage_) {
    Json::Object last = frame();
    last.emplace_back("choices", Json(Json::Array{}));
    last.emplace_back("usage", usage_json(done));
    out = event(Json(std::move(last)));
  }
  return out += "data: [DONE]\n\n";
}

Json CompletionFormat::whole(const std::vector<Completion>& done) {
  Json::Array choices;
  for (size_t i = 0; i < done.size(); ++i) {
    for (const Choice& reply : done[i].choices) {
      int64_t offset = 0;
      Json logprobs = logprobs_ ? logprobs_json(reply.logprobs, offset) : Json();
      choices.push_back(choice(static_cast<int64_t>(choices.size()),
                               (echoes_.empty() ? "" : echoes_[i]) + reply.text, std::move(logprobs),
                               Json(finish_name(reply.finish, false))));
    }
  }
  Json::Object out = frame();
  out.emplace_back("choices", Json(std::move(choices)));
  out.emplace_back("usage", usage_json(done));
  return Json(std::move(out));
}

}  // namespace llamita::server
