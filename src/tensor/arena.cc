#include "tensor/arena.h"

#include <algorithm>

namespace llamita {

Arena::Arena(size_t bytes, Device device, Allocate allocate)
    : allocate_(std::move(allocate)), memory_(allocate_(std::max<size_t>(bytes, 1))), device_(device) {}

Tensor Arena::take(DType dtype, std::initializer_list<int64_t> shape) {
  const Tensor shape_only(nullptr, dtype, shape, device_);
  const size_t begin = used_;
  used_ += (static_cast<size_t>(shape_only.bytes()) + kAlignment - 1) / kAlignment * kAlignment;
  peak_ = std::max(peak_, used_);
  if (measuring()) return shape_only;
  if (used_ > memory_.bytes()) {
    LLAMITA_CHECK(allocate_ != nullptr, "an arena of ", memory_.bytes(), " bytes was asked for ", used_);
    beyond_.push_back(allocate_(std::max<size_t>(static_cast<size_t>(shape_only.bytes()), 1)));
    return Tensor(beyond_.back().data(), dtype, shape, device_);
  }
  return Tensor(static_cast<char*>(memory_.data()) + begin, dtype, shape, device_);
}

}  // namespace llamita
