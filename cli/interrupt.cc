#include "cli/interrupt.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "llamita/error.h"

namespace llamita::cli {

namespace {

// A handler can reach nothing but globals, and do little: a lock-free atomic store and write().
CancelToken interrupt_token;
int interrupt_event = -1;
static_assert(std::atomic<bool>::is_always_lock_free);

extern "C" void on_interrupt(int) {
  const int saved = errno;
  interrupt_token.cancel();
  const uint64_t one = 1;
  // It can fail only when the event is set already.
  [[maybe_unused]] const ssize_t written = ::write(interrupt_event, &one, sizeof one);
  errno = saved;
}

}  // namespace

InterruptScope::InterruptScope() {
  if (interrupt_event < 0) interrupt_event = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (interrupt_event < 0) throw Error("no file descriptor is left to listen for Ctrl-C");
  interrupt_token.reset();
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t drained = ::read(interrupt_event, &count, sizeof count);
  struct sigaction action = {};
  action.sa_handler = on_interrupt;
  action.sa_flags = SA_RESTART;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGINT, &action, &previous_);
}

InterruptScope::~InterruptScope() { ::sigaction(SIGINT, &previous_, nullptr); }

const CancelToken* InterruptScope::token() const { return &interrupt_token; }

int InterruptScope::descriptor() const { return interrupt_event; }

}  // namespace llamita::cli
