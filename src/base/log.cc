#include "base/log.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace llamita {

namespace {

constexpr const char* kNames[] = {"error", "warning", "info", "debug"};

LogLevel level_from_environment() {
  const char* text = std::getenv("LLAMITA_LOG");
  if (text == nullptr) return LogLevel::warning;
  for (int i = 0; i < 4; ++i) {
    if (std::strcmp(text, kNames[i]) == 0) return static_cast<LogLevel>(i);
  }
  std::fprintf(stderr, "llamita: warning: LLAMITA_LOG: expected error, warning, info or debug, got %s\n",
               text);
  return LogLevel::warning;
}

std::atomic<LogLevel>& current() {
  static std::atomic<LogLevel> level = level_from_environment();
  return level;
}

}  // namespace

LogLevel log_level() { return current().load(std::memory_order_relaxed); }

void set_log_level(LogLevel level) { current().store(level, std::memory_order_relaxed); }

void log_line(LogLevel level, const std::string& message) {
  if (level > log_level()) return;
  const std::string line = cat("llamita: ", kNames[static_cast<int>(level)], ": ", message, "\n");
  std::fwrite(line.data(), 1, line.size(), stderr);
}

}  // namespace llamita
