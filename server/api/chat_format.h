// Replies of /v1/chat/completions: role first, then content and calls of tools, then the reason of the end,
// then the usage if asked for, then [DONE].
#pragma once

#include "server/api/reply_format.h"

namespace llamita::server {

class ChatFormat : public ReplyFormat {
 public:
  ChatFormat(const GenerationRequest& request, ReplyHeader header);
  std::string begin() override;
  std::string update(size_t prompt, const Delta& delta) override;
  std::string end(const std::vector<Completion>& done) override;
  Json whole(const std::vector<Completion>& done) override;

 private:
  std::unique_ptr<ToolCallParser> new_parser() const;
  std::string chunk(int choice, Json::Object delta, Json logprobs, Json finish) const;
  Json::Object frame(const char* object) const;
  Json whole_choice(const Choice& choice, int index) const;

  ReplyHeader header_;
  int n_;
  bool include_usage_, logprobs_;
  ToolUse tools_;
  std::vector<std::unique_ptr<ToolCallParser>> parsers_;  // one a choice; empty without tools
};

}  // namespace llamita::server
