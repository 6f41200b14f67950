#include "ops/shape_check.h"

#include "base/check.h"
#include "quant/kv_format.h"

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

void check_kv_side(std::string_view op, const Tensor& side, DType dtype, int64_t pages, int64_t Hkv,
                   int64_t D) {
  const KvFormat format{dtype};
  LLAMITA_CHECK(is_float(dtype) || format.has_scales(), op, ": a cache of ", name(dtype));
  check_shape(op, "cache", side, dtype,
              {{"pages", pages}, {"Hkv", Hkv}, {"kPageTokens", kPageTokens}, {"D", D}});
  if (!format.has_scales()) return;
  LLAMITA_CHECK(side.device().kind == DeviceKind::cpu, op, ": an int8 cache is for the CPU");
  LLAMITA_CHECK(side.stride(0) == Hkv * kPageTokens * format.row_bytes(D), op, ": a page of the cache ",
                side.shape_text(), " has ", side.stride(0), " bytes, with its scales it must have ",
                Hkv * kPageTokens * format.row_bytes(D));
}

DType passing_dtype(const Tensor& tensor) {
  const bool may_be_half = tensor.device().kind == DeviceKind::cuda || tensor.shape_only();
  return may_be_half && is_float(tensor.dtype()) ? tensor.dtype() : DType::f32;
}

}  // namespace llamita
