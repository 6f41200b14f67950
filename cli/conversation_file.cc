#include "cli/conversation_file.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "base/cat.h"
#include "formats/json.h"
#include "llamita/error.h"
#include "server/api/image_parts.h"
#include "server/api/reply_format.h"

namespace llamita::cli {

namespace {

Json text_json(const char* text) { return Json(std::string(text)); }

// The media type of a picture says nothing that its bytes do not.
Json content_json(const Message& message) {
  if (message.pictures.empty()) return Json(message.content);
  Json::Array parts;
  size_t begin = 0;
  const auto add_text = [&](size_t end) {
    if (end > begin)
      parts.emplace_back(Json::Object{{"type", text_json("text")},
                                      {"text", Json(message.content.substr(begin, end - begin))}});
    begin = end;
  };
  for (const Picture& picture : message.pictures) {
    add_text(picture.at);
    const auto* bytes = reinterpret_cast<const unsigned char*>(picture.file->data());
    const std::string url = cat("data:image;base64,", server::base64(bytes, picture.file->size()));
    parts.emplace_back(Json::Object{{"type", text_json("image_url")},
                                    {"image_url", Json(Json::Object{{"url", Json(url)}})}});
  }
  add_text(message.content.size());
  return Json(std::move(parts));
}

std::string to_json(const std::string& model, const Conversation& conversation) {
  Json::Array messages;
  for (const Message& message : conversation) {
    messages.push_back(Json(Json::Object{{"role", Json(message.role)}, {"content", content_json(message)}}));
  }
  return Json(Json::Object{{"model", Json(model)}, {"messages", Json(std::move(messages))}}).dump() + "\n";
}

bool write_all(int file, const std::string& text) {
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t count = ::write(file, text.data() + done, text.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    done += static_cast<size_t>(count);
  }
  return true;
}

[[noreturn]] void cannot_save(const std::string& path, int error) {
  throw Error(cat("cannot save to ", path, ": ", std::strerror(error)));
}

const std::string& text_member(const Json& object, const char* key, const std::string& where) {
  const Json* member = object.find(key);
  if (member == nullptr)
    throw Error(cat(where, ": expected an object with role and content, '", key, "' is missing"));
  return member->as_string(cat(where, ": ", key));
}

void read_content(const Json& entry, const std::string& where, Message& message) {
  const Json* content = entry.find("content");
  if (content == nullptr || !content->is_array()) {
    message.content = text_member(entry, "content", where);
    return;
  }
  for (const Json& part : content->as_array(where)) {
    const std::string& type = text_member(part, "type", where);
    const Json* image = part.find("image_url");
    if (type == "text") {
      message.content += text_member(part, "text", where);
    } else if (type == "image_url" && image != nullptr) {
      message.pictures.push_back({server::read_image(*image, where, {}, false).file, message.content.size()});
    } else {
      throw Error(cat(where, ": expected parts of type text or image_url"));
    }
  }
}

}  // namespace

void save_conversation(const std::string& path, const std::string& model, const Conversation& conversation) {
  // A new file beside the old one, renamed over it when it is complete. Readable by its owner alone: it is
  // what a person said.
  std::string draft = path + ".XXXXXX";
  const int file = ::mkstemp(draft.data());
  if (file < 0) cannot_save(path, errno);
  const bool written = write_all(file, to_json(model, conversation)) && ::fsync(file) == 0;
  int error = errno;
  if (::close(file) == 0 && written && std::rename(draft.c_str(), path.c_str()) == 0) return;
  if (written) error = errno;
  ::unlink(draft.c_str());
  cannot_save(path, error);
}

Conversation load_conversation(const std::string& path) {
  const Json file = Json::parse_file(path);
  const Json* messages = file.find("messages");
  if (messages == nullptr)
    throw Error(cat(path, ": expected a saved conversation, an object with 'messages'"));
  Conversation conversation;
  for (const Json& entry : messages->as_array(cat(path, ": messages"))) {
    const std::string where = cat(path, ": message ", conversation.size() + 1);
    Message message{text_member(entry, "role", where)};
    read_content(entry, where, message);
    if (message.role != "system" && message.role != "user" && message.role != "assistant") {
      throw Error(cat(where, ": expected the role system, user or assistant, got '", message.role, "'"));
    }
    conversation.push_back(std::move(message));
  }
  return conversation;
}

}  // namespace llamita::cli
