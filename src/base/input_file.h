// A file that is read by copying, where mapping would not do: what it holds is wanted in other pages, and a
// file that somebody cuts short meanwhile is an error and no SIGBUS.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace llamita {

class InputFile {
 public:
  // Throws Error when the path cannot be opened or is not a regular file.
  explicit InputFile(const std::string& path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }  // when it was opened
  // Fills `out` with what stands from `offset` on. Throws Error when the file ends before or cannot be read.
  // Thread-safe.
  void read_at(uint64_t offset, std::span<std::byte> out) const;

 private:
  std::string path_;
  int descriptor_ = -1;
  uint64_t size_ = 0;
};

}  // namespace llamita
