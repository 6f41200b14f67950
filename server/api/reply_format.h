// ReplyFormat: what a client gets for a request, as server-sent events while it runs or as one JSON body at
// its end. One object a request, used on the I/O thread; knows no sockets and no engine.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "formats/json.h"
#include "llamita/request.h"
#include "server/api/generation_request.h"

namespace llamita::server {

// What the reply says of the request beside its text.
struct ReplyHeader {
  std::string id;     // "chatcmpl-…"
  std::string model;  // the served name
  int64_t created = 0;
  std::string fingerprint;
};

class ReplyFormat {
 public:
  virtual ~ReplyFormat() = default;

  // A stream: begin(), update() for each of the engine's, end() when all prompts are done.
  virtual std::string begin() = 0;
  virtual std::string update(size_t prompt, const Delta& delta) = 0;
  virtual std::string end(const std::vector<Completion>& done) = 0;
  // Without a stream: the body.
  virtual Json whole(const std::vector<Completion>& done) = 0;
};

// `echoes`: for completions with echo, the text of each prompt; else empty.
std::unique_ptr<ReplyFormat> make_format(const GenerationRequest& request, ReplyHeader header,
                                         std::vector<std::string> echoes);

// "data: …" of one event.
std::string event(const Json& json);
// Whether a request ran into a deadline before any step had part of it.
bool never_begun(const Completion& done);

Json usage_json(const std::vector<Completion>& done);
// "stop", "length" or "tool_calls". A request that ran into its deadline has its "length".
std::string finish_name(FinishReason reason, bool called_tools);
// One token of the chat API's logprobs.
Json token_json(const TokenInfo& info);
// Bytes in standard base64.
std::string base64(const unsigned char* data, size_t size);
// A random id: `prefix` and 24 letters and digits.
std::string random_id(const char* prefix);

}  // namespace llamita::server
