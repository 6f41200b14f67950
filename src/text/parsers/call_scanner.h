// CallScanner: reads one call of a tool, {"name": "…", "arguments": {…}}, in pieces of any size. "parameters"
// means the same as "arguments". Works without recursion: the arguments are followed by their depth alone and
// copied as they are.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace llamita {

class CallScanner {
 public:
  enum class State {
    reading,
    done,    // the closing brace was read
    failed,  // this is no call; nothing was given out unless named()
  };

  // Reads from the front of `text`, which begins with the object's '{' at first; returns the bytes used.
  size_t push(std::string_view text);
  State state() const { return state_; }
  // The name is complete and arguments have begun: this is a call.
  bool named() const { return named_ && began_; }
  const std::string& name() const { return name_; }
  // The text of the arguments that came since the last call of this function; "" until named().
  std::string take_arguments();

 private:
  enum class At { open, key_or_end, key, colon, value, after };

  bool step(char c);  // false: `c` ended a value and is to be read again
  bool begin_value(char c);
  void in_value(char c);
  void end_value();
  void fail() { state_ = State::failed; }

  State state_ = State::reading;
  At at_ = At::open;
  std::string key_, name_, value_;  // value_: raw JSON text of a value that is not streamed
  std::string arguments_;           // not taken yet
  bool named_ = false, began_ = false, has_arguments_ = false;
  // Inside a value: how many brackets are open, whether in a string, after a backslash.
  int depth_ = 0;
  bool in_string_ = false, escaped_ = false, scalar_ = false;
};

}  // namespace llamita
