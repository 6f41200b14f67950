// Progress of something long, on standard error: a bar on a terminal, a plain line now and then elsewhere.
#pragma once

#include <cstdint>
#include <string>

#include "base/timer.h"

namespace llamita::cli {

class Progress {
 public:
  // `label` says what happens: "loading model.gguf".
  explicit Progress(std::string label);
  // Takes the bar away, as the end of the work does.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `total` is 0 or less while it is not known.
  void update(int64_t done, int64_t total);

 private:
  void clear();
  void draw_bar(int64_t done, int64_t total);
  void print_line(int64_t done, int64_t total);

  std::string label_;
  bool terminal_;
  bool drawn_ = false;
  int64_t shown_ = 0;
  Stopwatch since_start_, since_last_;
};

}  // namespace llamita::cli
