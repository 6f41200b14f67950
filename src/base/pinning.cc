#include "base/pinning.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "base/cat.h"
#include "base/usable_cores.h"
#include "llamita/error.h"

namespace llamita {

namespace {

bool set_cpus(const std::vector<int>& cpus) {
  if (cpus.empty()) return false;
  const int most = *std::max_element(cpus.begin(), cpus.end()) + 1;
  const std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> set(CPU_ALLOC(most),
                                                             [](cpu_set_t* s) { CPU_FREE(s); });
  const size_t bytes = CPU_ALLOC_SIZE(most);
  CPU_ZERO_S(bytes, set.get());
  for (const int cpu : cpus) CPU_SET_S(cpu, bytes, set.get());
  return sched_setaffinity(0, bytes, set.get()) == 0;
}

// Nanoseconds that this thread was ready to run and had no core, since it began; nothing where the kernel
// does not say.
std::optional<int64_t> waited_ns() {
  const int file = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
  if (file < 0) return std::nullopt;
  char text[96];
  const ssize_t size = read(file, text, sizeof text);
  close(file);
  if (size <= 0) return std::nullopt;
  const char* end = text + size;
  const char* second = std::find<const char*>(text, end, ' ');  // "<running> <waiting> <times>"
  int64_t waited = 0;
  if (second == end || std::from_chars(second + 1, end, waited).ec != std::errc()) return std::nullopt;
  return waited;
}

}  // namespace

Pinning parse_pinning(std::string_view text, std::string_view option) {
  if (text == "off") return Pinning::off;
  if (text == "auto") return Pinning::automatic;
  if (text == "on") return Pinning::on;
  throw Error(cat(option, ": expected auto, on or off, got '", text, "'"));
}

std::vector<int> pin_order(const std::vector<int>& cpus, const std::string& topology) {
  // Siblings have the same list ("0,4" or "0-1"), which so names their core.
  std::map<std::string, int> taken;
  std::vector<std::pair<int, int>> ranked;  // rank within its core, CPU
  for (const int cpu : cpus) {
    std::ifstream file(cat(topology, "/cpu", cpu, "/topology/thread_siblings_list"));
    std::string siblings;
    if (!std::getline(file, siblings) || siblings.empty()) siblings = cat("cpu", cpu);
    ranked.emplace_back(taken[siblings]++, cpu);
  }
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<int> order;
  std::transform(ranked.begin(), ranked.end(), std::back_inserter(order),
                 [](const auto& each) { return each.second; });
  return order;
}

std::vector<int> pin_cpus(Pinning pinning, int threads) {
  const auto count = static_cast<size_t>(threads);
  if (pinning == Pinning::off || count < 2) return {};
  const std::vector<int> allowed = allowed_cpus();
  if (allowed.size() < count) return {};
  if (pinning == Pinning::automatic && (allowed.size() > count || !waited_ns())) return {};
  std::vector<int> order = pin_order(allowed, "/sys/devices/system/cpu");
  order.resize(count);
  return order;
}

CorePin::CorePin(int cpu, Pinning pinning) : cpu_(cpu), pinning_(pinning) { pin(); }

CorePin::~CorePin() {
  if (pinned_) let_go();
}

void CorePin::pin() {
  before_ = allowed_cpus();
  const bool may = std::find(before_.begin(), before_.end(), cpu_) != before_.end();
  pinned_ = may && set_cpus({cpu_});
  waited_ns_ = waited_ns().value_or(0);
  last_look_ = Clock::now();
  next_look_ = last_look_ + (pinned_ ? Clock::duration(kWindow) : pause_);
}

// Whoever has changed the mask since (taskset, a cpuset) knows better: it stays, and this thread with it.
void CorePin::let_go() {
  pinned_ = false;
  if (allowed_cpus() == std::vector<int>{cpu_}) {
    set_cpus(before_);
  } else {
    pinning_ = Pinning::off;
  }
}

void CorePin::look() {
  if (pinning_ != Pinning::automatic) return;
  const Clock::time_point now = Clock::now();
  if (now < next_look_) return;
  if (!pinned_) return pin();
  const int64_t waited = waited_ns().value_or(0), since = waited - waited_ns_;
  const bool too_long = since > std::chrono::nanoseconds(now - last_look_).count() / kMostWaiting;
  waited_ns_ = waited;
  last_look_ = now;
  next_look_ = now + kWindow;
  if (!too_long) return;
  let_go();
  next_look_ = now + pause_;
  pause_ = std::min<Clock::duration>(2 * pause_, kLongestPause);
}

}  // namespace llamita
