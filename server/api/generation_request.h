// What a body of /v1/chat/completions, /v1/completions or /v1/embeddings asks for, checked field by field and
// turned into requests of the engine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "llamita/request.h"
#include "server/api/image_parts.h"
#include "server/api/tools.h"

namespace llamita::server {

// What one request may ask for; flags of `llamita serve`.
struct ApiLimits {
  int choices = 8;          // n
  int prompts = 64;         // of one completion or embedding request
  int logprobs = 20;        // most probable tokens shown beside each
  int reply_tokens = 0;     // max_tokens; 0: the context, once there is a model
  int stops = 4;            // stop strings, …
  size_t stop_bytes = 256;  // … each of at most this length
  size_t schema_bytes = 64 << 10;
  size_t token_text_bytes = size_t{1} << 20;  // of /tokenize, and of what /detokenize says
  size_t token_ids = size_t{1} << 17;         // of /detokenize
  int tools = 128;
  ImageLimits images;
  size_t body_values = size_t{1} << 20;  // JSON values in a body
  int body_depth = 64;
};

struct ParseContext {
  ApiLimits limits;
  bool lenient = false;
  ToolFormat tool_format = ToolFormat::hermes;
  int vocab_size = 0;                        // token ids are below; 0: not known
  int unasked_reply_tokens = -1;             // of a chat that names no max_tokens; -1: what the context holds
  bool takes_images = false;                 // the model does
  FetchImage fetch_image = {};               // empty: only data: URLs
  std::vector<AskedField>* asked = nullptr;  // hears which fields there are

  FieldRules rules(std::vector<std::string>& warnings) const { return {lenient, &warnings, asked}; }
  int last_token() const { return vocab_size > 0 ? vocab_size - 1 : INT32_MAX; }
  int most_reply_tokens() const { return limits.reply_tokens > 0 ? limits.reply_tokens : INT32_MAX; }
};

// An image whose file is still to be fetched: its place among the messages of a chat.
struct RemoteImage {
  size_t message = 0, picture = 0;
  ImageSource source;
};

enum class Endpoint { chat, completions, embeddings };

struct GenerationRequest {
  Endpoint endpoint = Endpoint::chat;
  std::optional<std::string> model;  // as the client named it
  std::vector<Request> requests;     // one a prompt; chat has one
  std::vector<RemoteImage> remote;   // of the chat; its pictures there have no file yet
  int n = 1;                         // choices of each
  bool stream = false, include_usage = false;
  bool logprobs = false;
  bool echo = false;    // completions: the prompt comes back in front
  bool base64 = false;  // embeddings
  int priority = 0;
  ToolUse tools;
  std::vector<std::string> warnings;
};

// Throws ApiError (400) that names the field. No image is fetched.
GenerationRequest parse_chat(std::string_view body, const ParseContext& context);
GenerationRequest parse_completion(std::string_view body, const ParseContext& context);
GenerationRequest parse_embedding(std::string_view body, const ParseContext& context);

// Whether any of its messages has an image.
bool has_pictures(const GenerationRequest& request);

// A body within the limits.
Json parse_body(std::string_view body, const ApiLimits& limits);

}  // namespace llamita::server
