#include "lessons/cublaslt.h"

#include "base/cat.h"
#include "hw/cuda/memory.h"
#include "llamita/error.h"

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>
#include <dlfcn.h>

namespace llamita::lessons {

namespace {

constexpr size_t kWorkspaceBytes = size_t{64} << 20;

void check(cublasStatus_t status, const char* call) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw Error(cat("cuBLASLt: ", call, " failed with ", static_cast<int>(status)));
}

class Loaded final : public CublasLt {
 public:
  explicit Loaded(void* library) : library_(library), workspace_(cuda::allocate_storage(kWorkspaceBytes, 0)) {
    find(create_, "cublasLtCreate");
    find(matmul_, "cublasLtMatmul");
    find(describe_, "cublasLtMatmulDescCreate");
    find(set_, "cublasLtMatmulDescSetAttribute");
    find(layout_, "cublasLtMatrixLayoutCreate");
    find(prefer_, "cublasLtMatmulPreferenceCreate");
    find(set_preference_, "cublasLtMatmulPreferenceSetAttribute");
    find(heuristic_, "cublasLtMatmulAlgoGetHeuristic");
    check(create_(&handle_), "cublasLtCreate");
    check(describe_(&operation_, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate");
    const cublasOperation_t transposed = CUBLAS_OP_T, plain = CUBLAS_OP_N;
    check(set_(operation_, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed), "set TRANSA");
    check(set_(operation_, CUBLASLT_MATMUL_DESC_TRANSB, &plain, sizeof plain), "set TRANSB");
    check(prefer_(&preference_), "cublasLtMatmulPreferenceCreate");
    check(set_preference_(preference_, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kWorkspaceBytes,
                          sizeof kWorkspaceBytes),
          "set MAX_WORKSPACE_BYTES");
  }

  // cuBLAS counts column-major: our B(N,K) is its (K,N) matrix to be transposed, our A(M,K) its (K,M), our C
  // its (N,M).
  int propose(const Gemm& p) override {
    const auto m = static_cast<uint64_t>(p.m), n = static_cast<uint64_t>(p.n), k = static_cast<uint64_t>(p.k);
    check(layout_(&left_, CUDA_R_16BF, k, n, p.k), "layout of B");
    check(layout_(&right_, CUDA_R_16BF, k, m, p.k), "layout of A");
    check(layout_(&result_, CUDA_R_16BF, n, m, p.n), "layout of C");
    int found = 0;
    check(heuristic_(handle_, operation_, left_, right_, result_, result_, preference_, kMaxAlgorithms,
                     proposals_, &found),
          "cublasLtMatmulAlgoGetHeuristic");
    return found;
  }

  void run(const Gemm& p, int algorithm, const cuda::Stream& stream) override {
    const float one = 1.0f, zero = 0.0f;
    check(matmul_(handle_, operation_, &one, p.b, left_, p.a, right_, &zero, p.c, result_, p.c, result_,
                  &proposals_[algorithm].algo, workspace_.data(), kWorkspaceBytes, stream.get()),
          "cublasLtMatmul");
  }

 private:
  template <class Function>
  void find(Function& function, const char* name) {
    void* symbol = dlsym(library_, name);
    if (symbol == nullptr)
      throw Error(cat("expected ", name, " in libcublasLt.so.13, found none: update the toolkit"));
    function = reinterpret_cast<Function>(symbol);
  }

  void* library_;  // stays loaded: its kernels may still be in captured graphs
  Storage workspace_;
  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatmulDesc_t operation_ = nullptr;
  cublasLtMatmulPreference_t preference_ = nullptr;
  cublasLtMatrixLayout_t left_ = nullptr, right_ = nullptr, result_ = nullptr;
  cublasLtMatmulHeuristicResult_t proposals_[kMaxAlgorithms] = {};

  decltype(&cublasLtCreate) create_ = nullptr;
  decltype(&cublasLtMatmul) matmul_ = nullptr;
  decltype(&cublasLtMatmulDescCreate) describe_ = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) set_ = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) layout_ = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) prefer_ = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) set_preference_ = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic_ = nullptr;
};

}  // namespace

std::unique_ptr<CublasLt> CublasLt::load(const char** why) {
  for (const char* name : {"libcublasLt.so.13", "/usr/local/cuda/lib64/libcublasLt.so.13", "libcublasLt.so"})
    if (void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL)) return std::make_unique<Loaded>(library);
  *why = "libcublasLt.so.13 is not on the library path";
  return nullptr;
}

}  // namespace llamita::lessons

#else

namespace llamita::lessons {

std::unique_ptr<CublasLt> CublasLt::load(const char** why) {
  *why = "built without cublasLt.h";
  return nullptr;
}

}  // namespace llamita::lessons

#endif
