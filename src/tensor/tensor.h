// Tensor: a small value that names memory it does not own: pointer, dtype, shape, strides, device. A tensor
// whose pointer is null is shape-only: the dry run that plans memory passes such tensors through the real
// forward().
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "base/check.h"
#include "tensor/dtype.h"
#include "tensor/float16.h"

namespace llamita {

enum class DeviceKind : uint8_t { cpu, cuda };

struct Device {
  DeviceKind kind = DeviceKind::cpu;
  int index = 0;
  friend bool operator==(const Device&, const Device&) = default;
};

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<bf16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct DTypeOf<f16> {
  static constexpr DType value = DType::f16;
};
template <>
struct DTypeOf<int8_t> {
  static constexpr DType value = DType::i8;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::i64;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::u8;
};

class Tensor {
 public:
  static constexpr int kMaxRank = 4;

  Tensor() = default;
  // Row-major and dense. Block formats have whole blocks in the last dimension.
  Tensor(void* data, DType dtype, std::initializer_list<int64_t> shape, Device device = {})
      : Tensor(data, dtype, std::span<const int64_t>(shape.begin(), shape.size()), device) {}
  Tensor(void* data, DType dtype, std::span<const int64_t> shape, Device device = {});

  // A dense tensor over a caller's array.
  template <class T>
  static Tensor of(T* data, std::initializer_list<int64_t> shape) {
    return Tensor(const_cast<std::remove_const_t<T>*>(data), DTypeOf<std::remove_const_t<T>>::value, shape);
  }

  bool defined() const { return rank_ > 0; }  // false: an optional tensor that is absent
  bool shape_only() const { return data_ == nullptr; }
  void* data() const { return data_; }
  DType dtype() const { return dtype_; }
  Device device() const { return device_; }
  int rank() const { return rank_; }
  int64_t dim(int axis) const {
    LLAMITA_DCHECK(axis >= 0 && axis < rank_, "axis ", axis, " of rank ", rank_);
    return shape_[axis];
  }
  std::span<const int64_t> shape() const { return {shape_.data(), static_cast<size_t>(rank_)}; }
  int64_t stride(int axis) const { return strides_[axis]; }  // in elements
  int64_t elems() const;
  int64_t bytes() const;  // of a dense tensor of this shape
  bool dense() const;

  // The elements as T; T must be the dtype (checked).
  template <class T>
  T* ptr() const {
    LLAMITA_CHECK(DTypeOf<T>::value == dtype_, "tensor is ", name(dtype_), ", read as ",
                  name(DTypeOf<T>::value));
    return static_cast<T*>(data_);
  }

  // The first axis cut to [begin, end); no copy.
  Tensor slice(int64_t begin, int64_t end) const;
  // The last axis cut to [begin, end); a strided view, no copy. Plain dtypes only.
  Tensor columns(int64_t begin, int64_t end) const;
  // The last axis split into (count, size / count): the heads of a projection. Rows may be strided.
  Tensor split_last(int64_t count) const;
  // Another shape over the same dense elements.
  Tensor view(std::initializer_list<int64_t> shape) const;

  std::string shape_text() const;  // "F32 (3, 64)"

 private:
  void* data_ = nullptr;
  DType dtype_ = DType::f32;
  Device device_;
  int rank_ = 0;
  std::array<int64_t, kMaxRank> shape_{};
  std::array<int64_t, kMaxRank> strides_{};
};

}  // namespace llamita
