// Ctrl-C: inside an InterruptScope it cancels what runs instead of ending the program.
#pragma once

#include <csignal>

#include "llamita/llm.h"

namespace llamita::cli {

// While one is alive, SIGINT sets its token and makes its descriptor readable. Scopes do not nest.
class InterruptScope {
 public:
  InterruptScope();
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;

  const CancelToken* token() const;
  bool interrupted() const { return token()->cancelled(); }
  // Readable once interrupted, for poll().
  int descriptor() const;

 private:
  struct sigaction previous_;
};

}  // namespace llamita::cli
