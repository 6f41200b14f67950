// BodyBudget: what the bodies of all connections together may hold. Each is bounded by itself too, but
// hundreds of connections times the largest body is more than machines have. A body counts with the bytes
// that have arrived, from its first one until it is parsed or let go, on whatever thread that is. Beast's
// string_body reserves what Content-Length says, at most HttpLimits::body_bytes, with the first byte; that is
// address space, whose pages take memory as they are written, and does not count.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <utility>

namespace llamita::server {

class BodyBudget {
 public:
  explicit BodyBudget(size_t most) : most_(most) {}

  size_t most() const { return most_; }
  size_t held() const { return held_; }
  // Whether `more` bytes would be within it now.
  bool fits(size_t more) const { return more <= most_ - held_; }

 private:
  friend class BodyShare;
  const size_t most_;
  std::atomic<size_t> held_ = 0;  // at most most_
};

// What one body holds of the budget, until it is destroyed. Grows on one thread; may be destroyed on any.
class BodyShare {
 public:
  explicit BodyShare(std::shared_ptr<BodyBudget> budget) : budget_(std::move(budget)) {}
  ~BodyShare() { budget_->held_ -= bytes_; }
  BodyShare(const BodyShare&) = delete;
  BodyShare& operator=(const BodyShare&) = delete;

  // False, and nothing changes, when the budget does not have that much. All shares grow on the I/O thread,
  // so nobody takes the room between the question and the answer.
  bool grow_to(size_t bytes) {
    if (bytes <= bytes_) return true;
    if (!budget_->fits(bytes - bytes_)) return false;
    budget_->held_ += bytes - bytes_;
    bytes_ = bytes;
    return true;
  }

 private:
  std::shared_ptr<BodyBudget> budget_;
  size_t bytes_ = 0;
};

}  // namespace llamita::server
