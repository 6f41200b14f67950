// The layout of the cache on disk.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "hub/hub.h"

namespace llamita::hub {

struct CacheFolders {
  std::filesystem::path root, blobs, snapshots, refs, locks;

  CacheFolders(const Config& config, const std::string& repo_id);
};

// An exclusive lock between processes, for as long as this lives. Throws Error when the file cannot be made.
class FileLock {
 public:
  explicit FileLock(const std::filesystem::path& path);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int descriptor_;
};

void make_folders(const std::filesystem::path& path);
// Replaces `path` as one step.
void write_small_file(const std::filesystem::path& path, std::string_view content);
// snapshots/<commit>/<name> as a relative link to the blob.
void link_blob(const CacheFolders& folders, const std::string& commit, const std::string& name,
               const std::string& blob);

}  // namespace llamita::hub
