// cuBLASLt, loaded when first asked for: nothing links it. The peer of every GEMM benchmark, and behind
// LLAMITA_KERNEL=linear=cublaslt the engine with the vendor's GEMM.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "hw/cuda/stream.h"
#include "tensor/dtype.h"

namespace llamita::cuda {

class CublasLt {
 public:
  static constexpr int kMaxAlgorithms = 16;
  static constexpr size_t kWorkspaceBytes = size_t{64} << 20;

  // out(M, N) = a(M, K) b(N, K)^T, or out += the same; fp32 sums, row-major, rows of a and out may be
  // strided.
  struct Problem {
    const void* a;
    const void* b;
    void* out;
    DType element;    // bf16 or f16: of a and b
    DType out_dtype;  // the same or f32
    int64_t M, N, K;
    int64_t a_stride, out_stride;  // elements
    bool add = false;
  };

  // The current device's, one for all callers. Null when the library, or its header at build time, was not
  // there; `why` then says which. Thread-safe, as are its members.
  static CublasLt* of_current_device(const char** why);
  virtual ~CublasLt() = default;

  // How many algorithms the heuristic proposes for such a problem, the most promising first; asked once for
  // problems that differ only in where their matrices lie.
  virtual int proposals(const Problem& problem) = 0;
  // Queues proposal `algorithm`. `workspace`: kWorkspaceBytes on the device. Throws Error when it is refused.
  virtual void run(const Problem& problem, int algorithm, void* workspace, const Stream& stream) = 0;
};

}  // namespace llamita::cuda
