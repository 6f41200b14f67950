#include "tensor/tensor.h"

namespace llamita {

Tensor::Tensor(void* data, DType dtype, std::span<const int64_t> shape, Device device)
    : data_(data), dtype_(dtype), device_(device), rank_(static_cast<int>(shape.size())) {
  LLAMITA_CHECK(rank_ >= 1 && rank_ <= kMaxRank, "rank ", rank_);
  int64_t stride = 1;
  for (int axis = rank_ - 1; axis >= 0; --axis) {
    LLAMITA_CHECK(shape[axis] >= 0, "negative dimension ", shape[axis]);
    shape_[axis] = shape[axis];
    strides_[axis] = stride;
    stride *= shape[axis];
  }
}

int64_t Tensor::elems() const {
  int64_t n = rank_ > 0 ? 1 : 0;
  for (int axis = 0; axis < rank_; ++axis) n *= shape_[axis];
  return n;
}

int64_t Tensor::bytes() const {
  if (elems() == 0) return 0;
  const int64_t last = shape_[rank_ - 1];
  return elems() / last * row_bytes(dtype_, last);
}

bool Tensor::dense() const {
  int64_t expected = 1;
  for (int axis = rank_ - 1; axis >= 0; --axis) {
    if (shape_[axis] != 1 && strides_[axis] != expected) return false;
    expected *= shape_[axis];
  }
  return true;
}

Tensor Tensor::slice(int64_t begin, int64_t end) const {
  LLAMITA_CHECK(rank_ >= 1 && 0 <= begin && begin <= end && end <= shape_[0], "slice ", begin, "..", end,
                " of ", shape_text());
  Tensor out = *this;
  out.shape_[0] = end - begin;
  if (data_ != nullptr && begin > 0) {
    const DTypeInfo& format = info(dtype_);
    LLAMITA_CHECK(strides_[0] * begin % format.block_elems == 0, "slice splits a block");
    out.data_ = static_cast<char*>(data_) + strides_[0] * begin / format.block_elems * format.block_bytes;
  }
  return out;
}

Tensor Tensor::columns(int64_t begin, int64_t end) const {
  const int last = rank_ - 1;
  LLAMITA_CHECK(rank_ >= 1 && 0 <= begin && begin <= end && end <= shape_[last], "columns ", begin, "..", end,
                " of ", shape_text());
  LLAMITA_CHECK(!is_block(dtype_), "columns of a block format");
  Tensor out = *this;
  out.shape_[last] = end - begin;
  if (data_ != nullptr) out.data_ = static_cast<char*>(data_) + begin * info(dtype_).block_bytes;
  return out;
}

Tensor Tensor::split_last(int64_t count) const {
  LLAMITA_CHECK(rank_ >= 1 && rank_ < kMaxRank && count > 0 && shape_[rank_ - 1] % count == 0,
                "the last axis of ", shape_text(), " in ", count);
  LLAMITA_CHECK(!is_block(dtype_), "splitting a block format");
  Tensor out = *this;
  const int64_t inner = shape_[rank_ - 1] / count;
  out.shape_[rank_ - 1] = count;
  out.strides_[rank_ - 1] = inner * strides_[rank_ - 1];
  out.shape_[rank_] = inner;
  out.strides_[rank_] = strides_[rank_ - 1];
  ++out.rank_;
  return out;
}

Tensor Tensor::view(std::initializer_list<int64_t> shape) const {
  LLAMITA_CHECK(dense(), "view of a strided tensor ", shape_text());
  Tensor out(data_, dtype_, shape, device_);
  LLAMITA_CHECK(out.elems() == elems(), "view of ", shape_text(), " as ", out.shape_text());
  return out;
}

std::string Tensor::shape_text() const {
  std::string out = cat(name(dtype_), " (");
  for (int axis = 0; axis < rank_; ++axis) out += cat(axis > 0 ? ", " : "", shape_[axis]);
  return out + ")";
}

}  // namespace llamita
