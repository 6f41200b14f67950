#include "base/usable_cores.h"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <string_view>
#include <thread>

#include "base/thread_pool.h"

namespace llamita {

namespace {

std::string read_text(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// The number at the start of `text`; nothing for "max" and for a missing file.
std::optional<int64_t> leading_number(std::string_view text) {
  int64_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  return result.ec == std::errc() ? std::optional(value) : std::nullopt;
}

int cores_of(std::optional<int64_t> quota, std::optional<int64_t> period) {
  if (!quota || !period || *quota <= 0 || *period <= 0) return 0;
  return static_cast<int>(std::clamp<int64_t>((*quota - 1) / *period + 1, 1, 1 << 20));
}

int v2_limit(const std::string& folder) {
  const std::string text = read_text(folder + "/cpu.max");  // "200000 100000" or "max 100000"
  const size_t space = text.find(' ');
  if (space == std::string::npos) return 0;
  return cores_of(leading_number(text), leading_number(std::string_view(text).substr(space + 1)));
}

int v1_limit(const std::string& folder) {
  return cores_of(leading_number(read_text(folder + "/cpu.cfs_quota_us")),
                  leading_number(read_text(folder + "/cpu.cfs_period_us")));
}

// The smallest limit of the folders root + path, root + parent of path, … root. The folders of a container
// may be absent; its root then holds the container's own limit.
template <class LimitOf>
int smallest_limit(const std::string& root, std::string path, LimitOf limit_of) {
  int smallest = 0;
  for (;;) {
    const int limit = limit_of(root + path);
    if (limit > 0 && (smallest == 0 || limit < smallest)) smallest = limit;
    if (path.empty()) return smallest;
    path.resize(path.find_last_of('/') == std::string::npos ? 0 : path.find_last_of('/'));
  }
}

bool lists_cpu(std::string_view controllers) {
  for (size_t begin = 0; begin <= controllers.size();) {
    const size_t end = std::min(controllers.find(',', begin), controllers.size());
    if (controllers.substr(begin, end - begin) == "cpu") return true;
    begin = end + 1;
  }
  return false;
}

}  // namespace

std::vector<int> allowed_cpus() {
  std::vector<int> allowed;
  // The kernel's mask may be wider than cpu_set_t's 1024 CPUs; it then refuses the small buffer.
  for (int cpus = 1024; cpus <= 1 << 20 && allowed.empty(); cpus *= 2) {
    const std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> set(CPU_ALLOC(cpus),
                                                               [](cpu_set_t* s) { CPU_FREE(s); });
    const size_t bytes = CPU_ALLOC_SIZE(cpus);
    CPU_ZERO_S(bytes, set.get());
    if (sched_getaffinity(0, bytes, set.get()) != 0) continue;
    for (int cpu = 0; cpu < cpus; ++cpu) {
      if (CPU_ISSET_S(cpu, bytes, set.get())) allowed.push_back(cpu);
    }
  }
  return allowed;
}

int cgroup_core_limit(const std::string& proc_self_cgroup, const std::string& mount) {
  int smallest = 0;
  std::istringstream lines(proc_self_cgroup);
  for (std::string line; std::getline(lines, line);) {  // "0::/path" is v2, "4:cpu,cpuacct:/path" v1
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    if (path == "/") path.clear();
    int limit = 0;
    if (controllers.empty()) {
      limit = smallest_limit(mount, path, v2_limit);
    } else if (lists_cpu(controllers)) {
      limit = smallest_limit(mount + "/cpu", path, v1_limit);
      if (limit == 0) limit = smallest_limit(mount + "/" + controllers, path, v1_limit);
    }
    if (limit > 0 && (smallest == 0 || limit < smallest)) smallest = limit;
  }
  return smallest;
}

int usable_cores() {
  const std::vector<int> allowed = allowed_cpus();
  const int known = allowed.empty() ? static_cast<int>(std::thread::hardware_concurrency())
                                    : static_cast<int>(allowed.size());
  const int cores = std::max(known, 1);
  const int limit = cgroup_core_limit(read_text("/proc/self/cgroup"), "/sys/fs/cgroup");
  return limit > 0 ? std::min(cores, limit) : cores;
}

}  // namespace llamita
