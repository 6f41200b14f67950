// linear by the portable GEMM for any weight: x of another type is converted first; parts in block formats
// are unpacked to the activations' type, a slab of rows at a time, and multiplied from there.
#include "ops/cuda.h"
#include "ops/cuda/block_formats.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/linear/gemm_sm80.cuh"
#include "ops/linear/variants.h"

namespace llamita {

namespace {

constexpr int kThreads = 256;
constexpr int64_t kSlabElems = int64_t{1} << 25;  // 64 MiB: about the L2 of the card, and enough for a wave

struct UnpackParams {
  const uint8_t* rows;
  void* out;
  int64_t row_bytes, items;  // items: rows * K / 8
  int K;
  DType format, out_dtype;
};

// A thread eight elements: a quarter of a chunk.
__global__ void __launch_bounds__(kThreads) unpack_rows(const UnpackParams p) {
  device::wait_for_predecessor();
  device::start_successor();
  const int64_t item = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (item >= p.items) return;
  const int per_row = p.K / 8;
  const int64_t row = item / per_row;
  const int chunk = static_cast<int>(item % per_row) / 4, q = static_cast<int>(item % 4);
  device::with_format(p.format, [&]<DType kFormat>() {
    float w[8];
    device::decode8<kFormat>(p.rows + row * p.row_bytes, chunk, q, w);
#pragma unroll
    for (int j = 0; j < 8; ++j)
      device::store_float(p.out, p.out_dtype, row * p.K + 32 * chunk + device::decoded_element(q, j), w[j]);
  });
}

// The 16-bit type that the multiplication runs in.
DType element_of(const LinearArgs& args, const Caps& caps) {
  const DType first = args.weight->parts.front().format;
  const bool uniform = std::all_of(args.weight->parts.begin(), args.weight->parts.end(),
                                   [&](const quant::Part& part) { return part.format == first; });
  if (uniform && (first == DType::bf16 || first == DType::f16)) return first;
  return args.x.dtype() == DType::f32 ? caps.activation : args.x.dtype();
}

bool in_place(const LinearArgs& args, DType element) {
  return args.x.dtype() == element && args.x.stride(0) % 8 == 0 &&
         reinterpret_cast<uintptr_t>(args.x.data()) % 16 == 0;
}

int64_t slab_rows(const quant::Part& part, int64_t K) {
  return std::min(part.rows, std::max<int64_t>(kSlabElems / K / 128 * 128, 128));
}

}  // namespace

bool linear_gemm_sm80_supports(const LinearArgs& args, const Caps& caps) {
  const quant::Weight& weight = *args.weight;
  if (weight.parts.empty() || !linear_cuda_reads(weight)) return false;
  const DType element = element_of(args, caps);
  if (element == DType::f32 || weight.cols % 8 != 0 || weight.cols > INT32_MAX / 2) return false;
  // The decoder works in whole chunks.
  return weight.cols % 32 == 0 ||
         std::all_of(weight.parts.begin(), weight.parts.end(),
                     [&](const quant::Part& part) { return part.format == element; });
}

// Of any x: whether it is converted may depend on where it lies, which a dry run does not know.
int64_t linear_gemm_sm80_scratch(const LinearArgs& args, const Caps& caps) {
  const DType element = element_of(args, caps);
  const int64_t K = args.weight->cols;
  int64_t bytes = 0;
  for (const quant::Part& part : args.weight->parts)
    if (part.format != element) bytes = std::max(bytes, slab_rows(part, K) * K * 2);
  if (args.x.dtype() != element || args.x.stride(0) % 8 != 0) bytes += (args.x.dim(0) * K * 2 + 63) / 64 * 64;
  return bytes;
}

double linear_gemm_sm80_us(const LinearArgs& args, const Caps& caps) {
  double us = 0;
  for (const quant::Part& part : args.weight->parts) {
    us += gemm_sm80_us(args.x.dim(0), part.rows, args.weight->cols, caps);
    if (is_block(part.format))
      us += kCudaLaunchUs + cuda_memory_us(caps, 2.6 * static_cast<double>(part.rows * args.weight->cols));
  }
  return us;
}

void linear_cuda_gemm_sm80(const LinearArgs& args, Context& context) {
  const DType element = element_of(args, context.caps());
  const int64_t T = args.x.dim(0), K = args.weight->cols;
  if (T == 0) return;
  const Arena::Scope scope(context.arena());
  Tensor x = args.x;
  if (!in_place(args, element)) {
    x = context.arena().take(element, {T, K});
    convert_rows(args.x, x.data(), element, K, context);
  }
  const bool residual = args.residual.defined();
  int64_t first_row = 0;
  const auto multiply = [&](const void* b, int64_t rows) {
    const auto at = [&](const Tensor& t) {
      return static_cast<uint8_t*>(t.data()) + first_row * info(t.dtype()).block_bytes;
    };
    gemm_sm80({.a = x.data(),
               .b = b,
               .element = element,
               .M = static_cast<int>(T),
               .N = static_cast<int>(rows),
               .K = static_cast<int>(K),
               .a_stride = x.stride(0),
               .b_stride = K,
               .bias = args.bias.defined() ? args.bias.ptr<float>() + first_row : nullptr,
               .residual = residual ? at(args.residual) : nullptr,
               .out = at(args.out),
               .residual_stride = residual ? args.residual.stride(0) : 0,
               .out_stride = args.out.stride(0),
               .residual_dtype = residual ? args.residual.dtype() : DType::f32,
               .out_dtype = args.out.dtype()},
              context);
    first_row += rows;
  };
  for (const quant::Part& part : args.weight->parts) {
    const auto* data = static_cast<const uint8_t*>(part.storage.data());
    if (part.format == element) {
      multiply(data, part.rows);
      continue;
    }
    const int64_t stride = row_bytes(part.format, K), slab = slab_rows(part, K);
    const Arena::Scope slab_scope(context.arena());
    const Tensor unpacked = context.arena().take(element, {slab, K});
    for (int64_t row = 0; row < part.rows; row += slab) {
      const int64_t rows = std::min(slab, part.rows - row);
      const UnpackParams params{.rows = data + row * stride,
                                .out = unpacked.data(),
                                .row_bytes = stride,
                                .items = rows * (K / 8),
                                .K = static_cast<int>(K),
                                .format = part.format,
                                .out_dtype = element};
      launch(context, unpack_rows, dim3(ceil_div(params.items, kThreads)), kThreads, 0, params);
      multiply(unpacked.data(), rows);
    }
  }
}

}  // namespace llamita
