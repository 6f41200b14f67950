// The peer of the ladder: of the algorithms that cuBLASLt's heuristic proposes, each is timed on the buffers
// of the run and the fastest is the peer.
#pragma once

#include <memory>

#include "hw/cuda/cublaslt.h"
#include "hw/cuda/memory.h"
#include "lessons/gemm.h"

namespace llamita::lessons {

class CublasLt {
 public:
  // Null when the library is not there; `why` then says so.
  static std::unique_ptr<CublasLt> load(const char** why) {
    cuda::CublasLt* library = cuda::CublasLt::of_current_device(why);
    return library == nullptr ? nullptr : std::unique_ptr<CublasLt>(new CublasLt(library));
  }

  // How many algorithms there are for this shape.
  int propose(const Gemm& p) { return library_->proposals(problem(p)); }
  void run(const Gemm& p, int algorithm, const cuda::Stream& stream) {
    library_->run(problem(p), algorithm, workspace_.data(), stream);
  }

 private:
  explicit CublasLt(cuda::CublasLt* library)
      : library_(library), workspace_(cuda::allocate_storage(cuda::CublasLt::kWorkspaceBytes, 0)) {}

  static cuda::CublasLt::Problem problem(const Gemm& p) {
    return {.a = p.a,
            .b = p.b,
            .out = p.c,
            .element = DType::bf16,
            .out_dtype = DType::bf16,
            .M = p.m,
            .N = p.n,
            .K = p.k,
            .a_stride = p.k,
            .out_stride = p.n};
  }

  cuda::CublasLt* library_;
  Storage workspace_;
};

}  // namespace llamita::lessons
