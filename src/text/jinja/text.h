// Text: UTF-8 that remembers, byte for byte, whether the template wrote it or a user did. Every operation of
// the interpreter that makes a string keeps these marks, so the prompt can be cut into trusted and untrusted
// pieces at the end. Marks are runs, because nearly every string is of one origin.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace llamita::jinja {

class Text {
 public:
  struct Run {
    size_t end;  // byte offset one past the run; the next run begins here
    bool trusted;
  };

  Text() = default;
  Text(std::string bytes, bool trusted);

  const std::string& bytes() const { return bytes_; }
  std::string_view view() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  // Runs cover all bytes in order, no two neighbours alike; empty for an empty text.
  const std::vector<Run>& runs() const { return runs_; }
  // True when no byte came from a user.
  bool trusted() const { return runs_.empty() || (runs_.size() == 1 && runs_[0].trusted); }
  bool trusted_at(size_t byte) const;

  void append(std::string_view bytes, bool trusted);
  void append(const Text& other) { append(other, 0, other.size()); }
  // Bytes [begin, end) of `other`, which may be this text itself.
  void append(const Text& other, size_t begin, size_t end);

  Text slice(size_t begin, size_t end) const;

 private:
  size_t run_of(size_t byte) const;

  std::string bytes_;
  std::vector<Run> runs_;
};

}  // namespace llamita::jinja
