// Log lines to stderr: "llamita: warning: …". One global level, the only global in the library; from the
// environment variable LLAMITA_LOG (error, warning, info, debug; default warning). Thread-safe: one write a
// line.
#pragma once

#include <string>

#include "base/cat.h"

namespace llamita {

enum class LogLevel { error, warning, info, debug };

LogLevel log_level();
void set_log_level(LogLevel level);
void log_line(LogLevel level, const std::string& message);

template <class... Parts>
void log_warning(const Parts&... parts) {
  if (log_level() >= LogLevel::warning) log_line(LogLevel::warning, cat(parts...));
}
template <class... Parts>
void log_info(const Parts&... parts) {
  if (log_level() >= LogLevel::info) log_line(LogLevel::info, cat(parts...));
}
template <class... Parts>
void log_debug(const Parts&... parts) {
  if (log_level() >= LogLevel::debug) log_line(LogLevel::debug, cat(parts...));
}

}  // namespace llamita
