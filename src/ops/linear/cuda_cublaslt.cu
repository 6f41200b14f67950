// linear by cuBLASLt's own choice of algorithm: forced alone (LLAMITA_KERNEL=linear=cublaslt),
// to hold the engine's kernels against the vendor's in one and the same engine. No bias: the library adds
// biases of the output's type, ours are f32.
#include <limits>

#include "base/cat.h"
#include "hw/cuda/cublaslt.h"
#include "llamita/error.h"
#include "ops/linear/dense_matrices.h"
#include "ops/linear/variants.h"

namespace llamita {

namespace {

bool aligned(const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }

// What a part of the weight's rows gives begins here.
uint8_t* out_from(const LinearArgs& args, int64_t row) {
  return static_cast<uint8_t*>(args.out.data()) + row * info(args.out.dtype()).block_bytes;
}

}  // namespace

// Rows and matrices at 16-byte borders: the library has algorithms for others too, but not for all.
bool linear_cublaslt_supports(const LinearArgs& args, const Caps& caps) {
  const DType element = args.x.dtype(), out = args.out.dtype();
  if (caps.device != DeviceKind::cuda || (element != DType::bf16 && element != DType::f16)) return false;
  if (args.bias.defined() || (out != element && out != DType::f32)) return false;
  if (args.residual.defined() &&
      (args.residual.data() != args.out.data() || args.residual.stride(0) != args.out.stride(0) ||
       args.residual.dtype() != out))
    return false;
  bool fits = args.weight->cols % 8 == 0 && args.x.stride(0) % 8 == 0 && aligned(args.x.data()) &&
              args.out.stride(0) * info(out).block_bytes % 16 == 0;
  int64_t first = 0;
  for (const quant::Part& part : args.weight->parts) {
    fits = fits && part.format == element && part.rows % 8 == 0 && aligned(part.storage.data()) &&
           aligned(out_from(args, first));
    first += part.rows;
  }
  return fits;
}

double linear_cublaslt_us(const LinearArgs&, const Caps&) { return std::numeric_limits<double>::infinity(); }

int64_t linear_cublaslt_scratch(const LinearArgs&, const Caps&) { return cuda::CublasLt::kWorkspaceBytes; }

void linear_cublaslt(const LinearArgs& args, Context& context) {
  const char* why = "";
  cuda::CublasLt* library = cuda::CublasLt::of_current_device(&why);
  if (library == nullptr)
    throw Error(cat("LLAMITA_KERNEL=linear=cublaslt expected cuBLASLt of CUDA 13, but ", why,
                    ": install the CUDA toolkit, or force another variant"));
  if (args.x.dim(0) == 0) return;
  void* workspace = context.arena().take(DType::u8, {cuda::CublasLt::kWorkspaceBytes}).data();
  for_each_dense_matrix(*args.weight, [&](const void* data, int64_t first, int64_t rows) {
    library->run({.a = args.x.data(),
                  .b = data,
                  .out = out_from(args, first),
                  .element = args.x.dtype(),
                  .out_dtype = args.out.dtype(),
                  .M = args.x.dim(0),
                  .N = rows,
                  .K = args.weight->cols,
                  .a_stride = args.x.stride(0),
                  .out_stride = args.out.stride(0),
                  .add = args.residual.defined()},
                 0, workspace, context.stream());
  });
}

}  // namespace llamita
