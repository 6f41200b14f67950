#include "text/parsers/call_scanner.h"

#include <utility>

#include "formats/json.h"
#include "llamita/error.h"

namespace llamita {

namespace {

constexpr int kMaxDepth = 64;
constexpr size_t kMaxKeyBytes = 64, kMaxNameBytes = 256, kMaxStringBytes = size_t{1} << 20;

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool is_arguments(std::string_view key) { return key == "arguments" || key == "parameters"; }

}  // namespace

size_t CallScanner::push(std::string_view text) {
  size_t used = 0;
  while (used < text.size() && state_ == State::reading) {
    if (!step(text[used])) continue;  // the same byte again, in another place
    ++used;
  }
  return used;
}

std::string CallScanner::take_arguments() {
  if (!named()) return {};
  return std::exchange(arguments_, {});
}

bool CallScanner::step(char c) {
  switch (at_) {
    case At::open:
      if (c != '{') fail();
      at_ = At::key_or_end;
      return true;
    case At::key_or_end:
      if (is_space(c)) return true;
      if (c != '"') fail();  // an empty object is no call either
      key_.clear();
      at_ = At::key;
      return true;
    case At::key:
      if (c == '"') {
        if (key_ != "name" && key_ != "type" && key_ != "id" && !is_arguments(key_)) fail();
        at_ = At::colon;
      } else {
        key_ += c;
        if (key_.size() > kMaxKeyBytes || c == '\\') fail();
      }
      return true;
    case At::colon:
      if (c == ':') {
        at_ = At::value;
        value_.clear();
        depth_ = 0;
        in_string_ = escaped_ = scalar_ = false;
      } else if (!is_space(c)) {
        fail();
      }
      return true;
    case At::value: {
      if (value_.empty() && is_space(c)) return true;
      if (value_.empty()) return begin_value(c);
      if (scalar_ && (c == ',' || c == '}' || is_space(c))) {
        end_value();
        return false;
      }
      in_value(c);
      return true;
    }
    case At::after:
      if (c == ',') {
        at_ = At::key_or_end;
      } else if (c == '}') {
        state_ = named_ && has_arguments_ ? State::done : State::failed;
      } else if (!is_space(c)) {
        fail();
      }
      return true;
  }
  return true;
}

bool CallScanner::begin_value(char c) {
  const bool argument = is_arguments(key_);
  if ((argument && (has_arguments_ || (c != '{' && c != '"'))) || (key_ == "name" && (named_ || c != '"'))) {
    fail();
    return true;
  }
  if (argument) began_ = true;
  in_string_ = c == '"';
  scalar_ = c != '{' && c != '[' && c != '"';
  if (c == '{' || c == '[') depth_ = 1;
  value_ = c;
  if (argument && c == '{') arguments_ += c;
  return true;
}

void CallScanner::in_value(char c) {
  const bool streamed = is_arguments(key_) && value_[0] == '{';
  if (streamed) {
    arguments_ += c;
  } else {
    value_ += c;
    if (value_.size() > (is_arguments(key_) ? kMaxStringBytes : kMaxNameBytes)) return fail();
  }
  if (in_string_) {
    if (escaped_) {
      escaped_ = false;
    } else if (c == '\\') {
      escaped_ = true;
    } else if (c == '"') {
      in_string_ = false;
      if (depth_ == 0) end_value();
    }
    return;
  }
  if (c == '"') in_string_ = true;
  if (c == '{' || c == '[') {
    if (++depth_ > kMaxDepth) fail();
  } else if ((c == '}' || c == ']') && --depth_ == 0) {
    end_value();
  }
}

void CallScanner::end_value() {
  at_ = At::after;
  const bool argument = is_arguments(key_);
  if (argument) has_arguments_ = true;
  if (key_ != "name" && !(argument && value_[0] == '"')) return;
  try {
    const Json text = Json::parse(value_, "call");
    if (key_ == "name") {
      name_ = text.as_string("name");
      named_ = !name_.empty();
      if (!named_) fail();
    } else {
      arguments_ += text.as_string("arguments");  // some models put the object's text into a string
    }
  } catch (const Error&) {
    fail();
  }
}

}  // namespace llamita
