// The file under way has one name and a lock on it rather than a name of each process's own: two starts do
// not write gigabytes twice, and what a killed process left behind is found and overwritten. The lock is
// flock's, which ends with its holder.
#include "base/atomic_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/cat.h"
#include "base/check.h"
#include "llamita/error.h"

namespace llamita {

namespace {

// Whether `path` still names the file behind `descriptor`: its last holder may have renamed it.
bool same_file(int descriptor, const std::string& path) {
  struct stat held {
  }, named{};
  return ::fstat(descriptor, &held) == 0 && ::lstat(path.c_str(), &named) == 0 &&
         held.st_dev == named.st_dev && held.st_ino == named.st_ino;
}

}  // namespace

AtomicFile::AtomicFile(const std::string& path, uint64_t bytes)
    : path_(path),
      partial_(path + ".tmp"),
      descriptor_(::open(partial_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666)) {
  if (descriptor_ < 0) fail("cannot be opened for writing", errno);
  int status = 0;
  while ((status = ::flock(descriptor_, LOCK_EX | LOCK_NB)) != 0 && errno == EINTR) {
  }
  if (status != 0 && errno != EWOULDBLOCK) {
    const int problem = errno;
    close();
    fail("cannot be locked", problem);
  }
  if (status != 0 || !same_file(descriptor_, partial_)) {
    close();
    return;
  }
  const auto room = static_cast<off_t>(bytes);
  if (::ftruncate(descriptor_, 0) == 0 && (room == 0 || ::fallocate(descriptor_, 0, 0, room) == 0)) return;
  const int problem = errno;
  if (problem == EOPNOTSUPP || problem == ENOSYS) return;  // writing will tell
  ::unlink(partial_.c_str());
  close();
  fail(cat("has no room for ", bytes, " bytes").c_str(), problem);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  if (!committed_) ::unlink(partial_.c_str());
  close();
}

void AtomicFile::close() {
  ::close(descriptor_);
  descriptor_ = -1;
}

void AtomicFile::fail(const char* what, int problem) const {
  throw Error(cat(partial_, ": ", what, ": ", std::strerror(problem)));
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  LLAMITA_CHECK(is_ours() && !committed_, partial_, " is not ours to write");
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("cannot be written", errno);
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

void AtomicFile::commit() {
  LLAMITA_CHECK(is_ours() && !committed_, partial_, " is not ours to commit");
  if (::fsync(descriptor_) != 0) fail("cannot be synced", errno);
  if (std::rename(partial_.c_str(), path_.c_str()) != 0) fail("cannot be renamed", errno);
  committed_ = true;
}

}  // namespace llamita
