#include "cli/progress.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "base/cat.h"
#include "cli/numbers.h"
#include "cli/output.h"

namespace llamita::cli {

namespace {

constexpr double kPatience = 0.4, kPlainPatience = 5.0;  // seconds: what is done by then needs no progress
constexpr double kRedraw = 0.1;                          // seconds between two drawings of the bar
constexpr double kLineInterval = 10.0;                   // seconds between two plain lines
constexpr int kBarWidth = 28;

std::string amounts(int64_t done, int64_t total) {
  const std::string so_far = human_bytes(static_cast<double>(done));
  return total > 0 ? cat(so_far, " of ", human_bytes(static_cast<double>(total))) : so_far;
}

}  // namespace

Progress::Progress(std::string label) : label_(std::move(label)), terminal_(stderr_is_terminal()) {}

Progress::~Progress() { clear(); }

void Progress::clear() {
  if (std::exchange(drawn_, false) && terminal_) std::fputs("\r\033[K", stderr);
}

void Progress::update(int64_t done, int64_t total) {
  if (terminal_ && total > 0 && done >= total) return clear();  // what is logged next has the line
  if (since_start_.seconds() < (terminal_ ? kPatience : kPlainPatience)) return;
  if (drawn_ && since_last_.seconds() < (terminal_ ? kRedraw : kLineInterval)) return;
  if (!terminal_ && done == shown_) return;  // a line that says the same again tells nothing
  shown_ = done;
  if (terminal_) {
    draw_bar(done, total);
  } else {
    print_line(done, total);
  }
  drawn_ = true;
  since_last_.restart();
}

void Progress::draw_bar(int64_t done, int64_t total) {
  std::string bar;
  if (total > 0) {
    const double part = std::clamp(static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0);
    const int filled = static_cast<int>(part * kBarWidth);
    bar = cat(" [", std::string(static_cast<size_t>(filled), '#'),
              std::string(static_cast<size_t>(kBarWidth - filled), '.'), "] ", static_cast<int>(part * 100),
              "%");
  }
  std::fputs(cat("\r\033[K", label_, bar, "  ", amounts(done, total)).c_str(), stderr);
  std::fflush(stderr);
}

void Progress::print_line(int64_t done, int64_t total) {
  std::fputs(cat("llamita: ", label_, ": ", amounts(done, total), "\n").c_str(), stderr);
}

}  // namespace llamita::cli
