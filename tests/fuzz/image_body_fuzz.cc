// Pictures of a chat's body, from the JSON to the pixels that a vision tower reads. An input that begins with
// '{' is a body. Any other is a list of parts from which a body is written, so that what is mutated are the
// files behind base64 and not its letters; of such a body it is known what must come out.
//
// A part: a byte for its kind and flaw, a byte for its media type, two for the length of its bytes, the
// bytes.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fuzz/image_input.h"
#include "image/decode.h"
#include "server/api/api_error.h"
#include "server/api/generation_request.h"
#include "server/api/reply_format.h"

namespace {

using namespace llamita;
using namespace llamita::server;

constexpr int kMostImages = 4;
constexpr size_t kMostBytes = 4096;

Json text(std::string_view value) { return Json(std::string(value)); }

std::string encoded(std::string_view bytes) {
  return base64(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
}

// A body, and the files that must come out; nothing when it is not known whether it is taken.
struct Written {
  Json::Array messages;
  Json::Array parts;
  std::optional<std::vector<std::string>> files = std::vector<std::string>();
  bool refused = false;  // it must be

  void end_message() {
    if (parts.empty()) return;
    messages.push_back(
        Json(Json::Object{{"role", text("user")}, {"content", Json(std::exchange(parts, {}))}}));
  }
  void add(std::string_view type, std::string_view key, Json value) {
    parts.push_back(Json(Json::Object{{"type", text(type)}, {std::string(key), std::move(value)}}));
  }
  std::string body() {
    end_message();
    return Json(Json::Object{{"messages", Json(messages)}}).dump();
  }
};

std::string data_url(std::string_view bytes, uint8_t type) {
  static constexpr std::string_view kTypes[] = {"image/png", "image/jpeg", "image/webp",
                                                "",          "text/html",  "image/svg+xml;charset=utf-8"};
  return "data:" + std::string(kTypes[type % std::size(kTypes)]) + ";base64," + encoded(bytes);
}

// True when the URL still means the same file.
bool flaw(std::string& url, uint8_t kind) {
  switch (kind) {
    case 1:  // padding may be left out
      while (url.back() == '=') url.pop_back();
      return true;
    case 2: url.insert(url.size() / 2, "\n"); return false;
    case 3: url += "="; return false;
    case 4: url.replace(0, 5, "http:"); return false;
    case 5: url.erase(url.find(";base64"), 7); return false;
    default: return true;
  }
}

void write_part(Written& out, uint8_t kind, uint8_t type, std::string_view bytes) {
  std::string url = data_url(bytes, type);
  bool sound = flaw(url, kind >> 4 & 7);
  switch (kind & 7) {
    case 0: out.end_message(); return;
    case 1:
      out.add("text", "text", text(bytes));
      if (std::any_of(bytes.begin(), bytes.end(), [](char c) { return (c & 0x80) != 0; }))
        out.files.reset();  // may not be UTF-8
      return;
    case 2: out.add("image_url", "image_url", Json(url)); break;
    case 3: out.add("image_url", "image_url", Json(Json::Object{{"url", Json(url)}})); break;
    case 4:
      out.add("image_url", "image_url", Json(Json::Object{{"detail", text("low")}, {"url", Json(url)}}));
      break;
    case 5:
      out.add("image_url", "image_url", Json(Json::Object{{"url", Json(Json::Object{{"url", Json(url)}})}}));
      out.refused = true;
      break;
    case 6: {
      const Json value = Json(Json::Object{{"url", Json(url)}});
      out.add("image_url", (type & 8) != 0 ? "url" : "image_url", Json(Json::Array{value}));
      out.refused = true;
      break;
    }
    case 7: out.add("image_url", "image_url", text(bytes)), sound = false; break;
  }
  if (!sound || bytes.size() > kMostBytes) out.files.reset();
  if (out.files) out.files->emplace_back(bytes);
}

Written write_body(const uint8_t* data, size_t size) {
  Written out;
  for (size_t at = 0; at + 4 <= size;) {
    const uint8_t kind = data[at], type = data[at + 1];
    const size_t length = std::min(size - at - 4, size_t{data[at + 2]} << 8 | data[at + 3]);
    write_part(out, kind, type, {reinterpret_cast<const char*>(data + at + 4), length});
    at += 4 + length;
  }
  out.end_message();
  const bool few = out.files && out.files->size() <= kMostImages;
  out.refused |= out.messages.empty();
  if (!few || out.refused) out.files.reset();
  return out;
}

void decode(const std::string& file) {
  try {
    fuzz::check_image(decode_image(std::as_bytes(std::span(file)), "image 1", fuzz::kImageLimits));
  } catch (const Error&) {
  }
}

void check(const std::string& body, const std::optional<std::vector<std::string>>& files, bool refused) {
  ParseContext context;
  context.takes_images = true;
  context.limits.images = {kMostImages, kMostBytes};
  std::vector<std::string> found;
  try {
    const GenerationRequest request = parse_chat(body, context);
    for (const Message& message : std::get<Conversation>(request.requests.at(0).prompt)) {
      for (const Picture& picture : message.pictures) {
        LLAMITA_CHECK(picture.at <= message.content.size(), "a picture behind its message");
        found.push_back(*picture.file);
      }
    }
  } catch (const ApiError& error) {
    LLAMITA_CHECK(error.status == 400, "a body's fault is a 400");
    LLAMITA_CHECK(!files, "a sound body was refused");
    Json::parse(error_body(error).dump(), "error");
    return;
  }
  LLAMITA_CHECK(!refused, "a picture in the wrong place was taken");
  LLAMITA_CHECK(found.size() <= kMostImages, "more images than allowed");
  LLAMITA_CHECK(!files || found == *files, "other files came out than went in");
  for (const std::string& file : found) {
    LLAMITA_CHECK(file.size() <= kMostBytes, "a larger file than allowed");
    decode(file);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 0 && data[0] == '{') {
    check(std::string(reinterpret_cast<const char*>(data), size), std::nullopt, false);
  } else {
    Written written = write_body(data, size);
    check(written.body(), written.files, written.refused);
  }
  return 0;
}
