#include "ops/shape_check.h"

#include "base/check.h"

namespace llamita {

namespace {

bool fits(const Tensor& tensor, DType dtype, std::initializer_list<Axis> axes) {
  if (tensor.dtype() != dtype || tensor.rank() != static_cast<int>(axes.size())) return false;
  int64_t dense_stride = 1;
  for (int axis = tensor.rank() - 1; axis >= 0; --axis) {
    const int64_t size = tensor.dim(axis);
    if (size != axes.begin()[axis].size) return false;
    if (axis > 0 && size > 1 && tensor.stride(axis) != dense_stride) return false;
    dense_stride *= size;
  }
  return true;
}

std::string axes_text(std::initializer_list<Axis> axes) {
  std::string text;
  for (const Axis& axis : axes) text += cat(text.empty() ? "" : ", ", axis.name, " ", axis.size);
  return text;
}

}  // namespace

void check_shape(std::string_view op, std::string_view tensor_name, const Tensor& tensor, DType dtype,
                 std::initializer_list<Axis> axes) {
  LLAMITA_CHECK(fits(tensor, dtype, axes), op, ": ", tensor_name, " must be ", name(dtype), " (",
                axes_text(axes), "), dense but for the first axis, got ",
                tensor.defined() ? tensor.shape_text() : std::string("an undefined tensor"));
}

void check_optional_shape(std::string_view op, std::string_view tensor_name, const Tensor& tensor,
                          DType dtype, std::initializer_list<Axis> axes) {
  if (tensor.defined()) check_shape(op, tensor_name, tensor, dtype, axes);
}

DType passing_dtype(const Tensor& tensor) {
  const bool may_be_half = tensor.device().kind == DeviceKind::cuda || tensor.shape_only();
  return may_be_half && is_float(tensor.dtype()) ? tensor.dtype() : DType::f32;
}

}  // namespace llamita
