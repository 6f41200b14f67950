#include "hw/cuda/tensor_map.h"

#include <cudaTypedefs.h>
#include <cuda_runtime_api.h>

#include "base/cat.h"
#include "base/check.h"
#include "hw/cuda/check.h"
#include "llamita/error.h"

namespace llamita::cuda {

namespace {

// Looked up rather than linked: programs must start on machines without a driver.
PFN_cuTensorMapEncodeTiled_v12000 find_encoder() {
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult result{};
  LLAMITA_CUDA_CHECK(
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &result));
  if (result != cudaDriverEntryPointSuccess || entry == nullptr)
    throw Error(
        "expected an NVIDIA driver with cuTensorMapEncodeTiled (CUDA 12 or newer): update the driver");
  return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(entry);
}

CUtensorMapDataType data_type(DType dtype) {
  switch (dtype) {
    case DType::bf16: return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    case DType::f16: return CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
    case DType::f32: return CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
    case DType::i32: return CU_TENSOR_MAP_DATA_TYPE_INT32;
    case DType::u8:
    case DType::i8: return CU_TENSOR_MAP_DATA_TYPE_UINT8;
    default: break;
  }
  LLAMITA_CHECK(false, "no tensor map of ", name(dtype));
  return CU_TENSOR_MAP_DATA_TYPE_UINT8;
}

struct SwizzleMode {
  CUtensorMapSwizzle mode;
  int64_t span_bytes;  // the longest box row it takes
};

SwizzleMode mode_of(TmaSwizzle swizzle) {
  switch (swizzle) {
    case TmaSwizzle::span32: return {CU_TENSOR_MAP_SWIZZLE_32B, 32};
    case TmaSwizzle::span64: return {CU_TENSOR_MAP_SWIZZLE_64B, 64};
    case TmaSwizzle::span128: return {CU_TENSOR_MAP_SWIZZLE_128B, 128};
    case TmaSwizzle::none: break;
  }
  return {CU_TENSOR_MAP_SWIZZLE_NONE, int64_t{256} * 8};
}

}  // namespace

CUtensorMap make_tensor_map(const Tensor& tensor, std::initializer_list<int> box, TmaSwizzle swizzle) {
  static const PFN_cuTensorMapEncodeTiled_v12000 encode = find_encoder();
  const int rank = tensor.rank();
  LLAMITA_CHECK(static_cast<int>(box.size()) == rank, "box of rank ", box.size(), " for ",
                tensor.shape_text());
  LLAMITA_CHECK(reinterpret_cast<uintptr_t>(tensor.data()) % 16 == 0, "tensor map of misaligned data");
  LLAMITA_CHECK(tensor.stride(rank - 1) == 1, "tensor map needs a contiguous last axis");
  const int64_t elem_bytes = info(tensor.dtype()).block_bytes;
  const SwizzleMode mode = mode_of(swizzle);

  cuuint64_t dims[Tensor::kMaxRank], strides[Tensor::kMaxRank] = {};
  cuuint32_t boxes[Tensor::kMaxRank], steps[Tensor::kMaxRank];
  for (int axis = 0; axis < rank; ++axis) {
    const int inner = rank - 1 - axis;  // CUDA counts from the innermost axis
    const int side = box.begin()[inner];
    LLAMITA_CHECK(side >= 1 && side <= 256, "box side ", side);
    dims[axis] = static_cast<cuuint64_t>(tensor.dim(inner));
    boxes[axis] = static_cast<cuuint32_t>(side);
    steps[axis] = 1;
    if (axis == 0) {
      LLAMITA_CHECK(side * elem_bytes <= mode.span_bytes, "box row of ", side,
                    " elements is longer than the swizzle");
    } else {
      const int64_t stride = tensor.stride(inner) * elem_bytes;
      LLAMITA_CHECK(stride % 16 == 0, "stride of ", stride, " bytes; a tensor map needs multiples of 16");
      strides[axis - 1] = static_cast<cuuint64_t>(stride);
    }
  }
  CUtensorMap map{};
  const CUresult result =
      encode(&map, data_type(tensor.dtype()), static_cast<cuuint32_t>(rank), tensor.data(), dims, strides,
             boxes, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, mode.mode, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  LLAMITA_CHECK(result == CUDA_SUCCESS, "cuTensorMapEncodeTiled refused ", tensor.shape_text(),
                " with error ", static_cast<int>(result));
  return map;
}

}  // namespace llamita::cuda
