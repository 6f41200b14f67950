// A whole file, mapped read-only. Parsers check every extent against size() before they touch a page, so a
// truncated file is an error message and no SIGBUS.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace llamita {

class MappedFile {
 public:
  // Throws Error when the path cannot be opened, is not a regular file, or cannot be mapped. An empty file
  // maps to an empty span.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  size_t size() const { return size_; }
  int64_t modified_ns() const { return modified_ns_; }  // since 1970, when it was opened
  std::span<const std::byte> bytes() const { return {data_, size_}; }

  // Gives the pages wholly inside `part` back to the system; they are read again if touched again.
  void release(std::span<const std::byte> part) const;

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  int64_t modified_ns_ = 0;
};

}  // namespace llamita
