// LLAMITA_CHECK(condition, "rows ", n): a programmer's error, impossible from any input. Prints where and why
// and aborts. LLAMITA_DCHECK is the same, compiled out of release builds. For what a user or a file can
// cause, throw llamita::Error instead.
#pragma once

#include <string>

#include "base/cat.h"

namespace llamita::detail {

[[noreturn]] void check_failed(const char* file, int line, const char* condition, const std::string& message);

}  // namespace llamita::detail

#define LLAMITA_CHECK(condition, ...)                                                 \
  do {                                                                                \
    if (!(condition)) [[unlikely]]                                                    \
      ::llamita::detail::check_failed(__FILE__, __LINE__, #condition,                 \
                                      ::llamita::cat("" __VA_OPT__(, ) __VA_ARGS__)); \
  } while (0)

#ifdef NDEBUG
#define LLAMITA_DCHECK(condition, ...) \
  do {                                 \
  } while (0)
#else
#define LLAMITA_DCHECK(condition, ...) LLAMITA_CHECK(condition __VA_OPT__(, ) __VA_ARGS__)
#endif
