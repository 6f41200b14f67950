#include "analysis/available_memory.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <string>
#include <string_view>

namespace llamita {

namespace {

std::optional<int64_t> to_integer(std::string_view text) {
  int64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc()) return std::nullopt;
  return value;
}

// A file that holds one number; nothing for "max" and for files that are not there.
std::optional<int64_t> read_integer(const std::string& path) {
  std::ifstream file(path);
  std::string word;
  if (!(file >> word)) return std::nullopt;
  return to_integer(word);
}

// The number after `key` in a file of lines "key number …".
std::optional<int64_t> read_key(const std::string& path, std::string_view key) {
  std::ifstream file(path);
  std::string name, value, line;
  while (file >> name >> value) {
    if (name == key) return to_integer(value);
    std::getline(file, line);
  }
  return std::nullopt;
}

// This process's cgroup as /proc/self/cgroup has it: "0::/path" (version 2) or "5:memory:/path" (version 1).
std::string cgroup_path(std::string_view controller) {
  std::ifstream file("/proc/self/cgroup");
  std::string line;
  const std::string marker = ":" + std::string(controller) + ":";
  while (std::getline(file, line)) {
    const size_t at = line.find(marker);
    if (at != std::string::npos) return line.substr(at + marker.size());
  }
  return "";
}

std::optional<int64_t> room_in(const std::string& folder, const char* limit_file, const char* usage_file,
                               const char* cache_key) {
  const auto limit = read_integer(folder + limit_file);
  const auto usage = read_integer(folder + usage_file);
  if (!limit || !usage) return std::nullopt;
  const int64_t cache = read_key(folder + "/memory.stat", cache_key).value_or(0);
  return std::max<int64_t>(0, *limit - std::max<int64_t>(0, *usage - cache));
}

// Every ancestor's limit binds too; inside a container the own path may not be visible and the root is ours.
std::optional<int64_t> room_in_cgroups(const std::string& root, std::string path, const char* limit_file,
                                       const char* usage_file, const char* cache_key) {
  std::optional<int64_t> least;
  while (true) {
    const auto room = room_in(root + path, limit_file, usage_file, cache_key);
    if (room) least = std::min(least.value_or(*room), *room);
    const size_t slash = path.rfind('/');
    if (path.empty() || slash == std::string::npos) return least;
    path.resize(slash);
  }
}

}  // namespace

std::optional<int64_t> available_memory() {
  std::optional<int64_t> least;
  const auto consider = [&](std::optional<int64_t> bytes) {
    if (bytes) least = std::min(least.value_or(*bytes), *bytes);
  };
  if (const auto kib = read_key("/proc/meminfo", "MemAvailable:")) consider(*kib * 1024);
  consider(room_in_cgroups("/sys/fs/cgroup", cgroup_path(""), "/memory.max", "/memory.current", "file"));
  consider(room_in_cgroups("/sys/fs/cgroup/memory", cgroup_path("memory"), "/memory.limit_in_bytes",
                           "/memory.usage_in_bytes", "total_cache"));
  return least;
}

}  // namespace llamita
