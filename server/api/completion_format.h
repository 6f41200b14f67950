// Replies of /v1/completions: text, for each prompt n choices.
#pragma once

#include "server/api/reply_format.h"

namespace llamita::server {

class CompletionFormat : public ReplyFormat {
 public:
  CompletionFormat(const GenerationRequest& request, ReplyHeader header, std::vector<std::string> echoes);
  std::string begin() override;
  std::string update(size_t prompt, const Delta& delta) override;
  std::string end(const std::vector<Completion>& done) override;
  Json whole(const std::vector<Completion>& done) override;

 private:
  Json::Object frame() const;
  Json choice(int64_t index, std::string text, Json logprobs, Json finish) const;
  // `offset`: of the first token in the choice's text, in characters; advanced past the tokens.
  Json logprobs_json(const std::vector<TokenInfo>& infos, int64_t& offset) const;

  ReplyHeader header_;
  int n_;
  bool include_usage_, logprobs_;
  std::vector<std::string> echoes_;
  std::vector<int64_t> offsets_;  // of a stream, for each choice
};

}  // namespace llamita::server
