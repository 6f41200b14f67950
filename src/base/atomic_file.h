// A file that appears complete or not at all: written beside its place, synced, then renamed onto it. Who
// reads the old one meanwhile keeps it. Of several processes that write the same one, one does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace llamita {

class AtomicFile {
 public:
  // Begins to write `path`, in `path`.tmp, whose folder is there. Takes room for `bytes` at once where the
  // file system can, so that a full disk is known now. Throws Error with the reason.
  AtomicFile(const std::string& path, uint64_t bytes);
  // What was not committed is gone.
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // False: another process is writing this file just now, or has just done so; nothing is to be written.
  bool is_ours() const { return descriptor_ >= 0; }
  // Appends. Throws Error.
  void write(std::span<const std::byte> bytes);
  // Puts the file in its place. Throws Error.
  void commit();

 private:
  [[noreturn]] void fail(const char* what, int problem) const;
  void close();

  std::string path_, partial_;
  int descriptor_ = -1;
  bool committed_ = false;
};

}  // namespace llamita
