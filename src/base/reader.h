// A bounded cursor over untrusted little-endian bytes. Every read is checked against what is left, and every
// error says which file and at what offset. Parsers of binary formats use nothing else to touch their input.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/cat.h"
#include "llamita/error.h"

namespace llamita {

class Reader {
 public:
  // Borrows `bytes`; `source` names them in errors (a path).
  Reader(std::span<const std::byte> bytes, std::string source) : bytes_(bytes), source_(std::move(source)) {}

  size_t offset() const { return offset_; }
  size_t left() const { return bytes_.size() - offset_; }
  const std::string& source() const { return source_; }

  // The next little-endian number; `what` names it in the error when the input ends early.
  template <class Number>
  requires std::is_arithmetic_v<Number> Number read(std::string_view what) {
    Number value;
    std::memcpy(&value, take(sizeof value, what).data(), sizeof value);
    return value;
  }

  // The next n bytes, borrowed.
  std::span<const std::byte> take(uint64_t n, std::string_view what) {
    if (n > left()) fail(cat(what, " needs ", n, " bytes but only ", left(), " are left"));
    const auto out = bytes_.subspan(offset_, static_cast<size_t>(n));
    offset_ += static_cast<size_t>(n);
    return out;
  }

  std::string_view take_text(uint64_t n, std::string_view what) {
    const auto bytes = take(n, what);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  // Throws Error "<source>, offset <n>: <message>".
  [[noreturn]] void fail(const std::string& message) const {
    throw Error(cat(source_, ", offset ", offset_, ": ", message));
  }

 private:
  std::span<const std::byte> bytes_;
  std::string source_;
  size_t offset_ = 0;
};

}  // namespace llamita
