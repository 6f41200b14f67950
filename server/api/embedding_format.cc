#include "server/api/embedding_format.h"

#include <bit>

namespace llamita::server {

namespace {

static_assert(std::endian::native == std::endian::little, "the base64 form is the memory of the vector");

Json numbers(const std::vector<float>& vector) {
  Json::Array out;
  out.reserve(vector.size());
  for (const float value : vector) out.push_back(Json(double{value}));
  return Json(std::move(out));
}

}  // namespace

Json EmbeddingFormat::whole(const std::vector<Completion>& done) {
  Json::Array data;
  int64_t tokens = 0;
  for (const Completion& completion : done) {
    const auto& vector = completion.embedding;
    const auto* bytes = reinterpret_cast<const unsigned char*>(vector.data());
    data.push_back(Json(Json::Object{
        {"object", Json(std::string("embedding"))},
        {"index", Json(static_cast<int64_t>(data.size()))},
        {"embedding", base64_ ? Json(base64(bytes, vector.size() * sizeof(float))) : numbers(vector)}}));
    tokens += completion.prompt_tokens;
  }
  return Json(Json::Object{
      {"object", Json(std::string("list"))},
      {"data", Json(std::move(data))},
      {"model", Json(header_.model)},
      {"usage", Json(Json::Object{{"prompt_tokens", Json(tokens)}, {"total_tokens", Json(tokens)}})}});
}

}  // namespace llamita::server
