// Replies of /v1/embeddings: a vector a prompt, as numbers or as base64 of little-endian f32.
#pragma once

#include "server/api/reply_format.h"

namespace llamita::server {

class EmbeddingFormat : public ReplyFormat {
 public:
  EmbeddingFormat(const GenerationRequest& request, ReplyHeader header)
      : header_(std::move(header)), base64_(request.base64) {}
  // Embeddings are not streamed.
  std::string begin() override { return {}; }
  std::string update(size_t, const Delta&) override { return {}; }
  std::string end(const std::vector<Completion>&) override { return {}; }
  Json whole(const std::vector<Completion>& done) override;

 private:
  ReplyHeader header_;
  bool base64_;
};

}  // namespace llamita::server
