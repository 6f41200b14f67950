#include "hw/cuda/cublaslt.h"

#include "base/cat.h"
#include "llamita/error.h"

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>
#include <dlfcn.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>

#include "hw/cuda/check.h"

namespace llamita::cuda {

namespace {

void check(cublasStatus_t status, const char* call) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw Error(cat("cuBLASLt: ", call, " failed with ", static_cast<int>(status)));
}

cudaDataType_t type_of(DType dtype) {
  if (dtype == DType::bf16) return CUDA_R_16BF;
  return dtype == DType::f16 ? CUDA_R_16F : CUDA_R_32F;
}

uint32_t alignment_of(const void* data) {
  const auto address = reinterpret_cast<uintptr_t>(data);
  return static_cast<uint32_t>(std::min<uintptr_t>(address & (~address + 1), 256));
}

class Loaded final : public CublasLt {
 public:
  explicit Loaded(void* library) : library_(library) {
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
    const size_t workspace = kWorkspaceBytes;
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace);
  }

  int proposals(const Problem& p) override { return plan_of(p).count; }

  void run(const Problem& p, int algorithm, void* workspace, const Stream& stream) override {
    const float one = 1, beta = p.add ? 1 : 0;
    const Plan& plan = plan_of(p);
    if (algorithm >= plan.count)
      throw Error(cat("cuBLASLt has no algorithm for ", p.M, " x ", p.N, " x ", p.K));
    check(
        matmul_(handle_, operation_, &one, p.b, plan.left, p.a, plan.right, &beta, p.out, plan.result, p.out,
                plan.result, &plan.proposals[algorithm].algo, workspace, kWorkspaceBytes, stream.get()),
        "cublasLtMatmul");
  }

 private:
  using Key = std::tuple<DType, DType, int64_t, int64_t, int64_t, int64_t, int64_t, uint32_t>;

  struct Plan {
    cublasLtMatrixLayout_t left = nullptr, right = nullptr, result = nullptr;
    cublasLtMatmulHeuristicResult_t proposals[kMaxAlgorithms] = {};
    int count = 0;
  };

  template <class Function>
  void find(Function& function, const char* name) {
    void* symbol = dlsym(library_, name);
    if (symbol == nullptr)
      throw Error(cat("expected ", name, " in libcublasLt.so.13, found none: update the toolkit"));
    function = reinterpret_cast<Function>(symbol);
  }

  template <class Value>
  void prefer(cublasLtMatmulPreferenceAttributes_t what, const Value& value) {
    check(set_preference_(preference_, what, &value, sizeof value), "cublasLtMatmulPreferenceSetAttribute");
  }

  // cuBLAS counts column-major: our b(N, K) is its (K, N) matrix to be transposed, our a(M, K) its (K, M),
  // our out its (N, M).
  const Plan& plan_of(const Problem& p) {
    const uint32_t alignment = std::min({alignment_of(p.a), alignment_of(p.b), alignment_of(p.out)});
    const std::lock_guard lock(mutex_);
    const auto [at, fresh] =
        plans_.try_emplace(Key{p.element, p.out_dtype, p.M, p.N, p.K, p.a_stride, p.out_stride, alignment});
    Plan& plan = at->second;
    if (!fresh) return plan;
    const auto m = static_cast<uint64_t>(p.M), n = static_cast<uint64_t>(p.N), k = static_cast<uint64_t>(p.K);
    check(layout_(&plan.left, type_of(p.element), k, n, p.K), "layout of b");
    check(layout_(&plan.right, type_of(p.element), k, m, p.a_stride), "layout of a");
    check(layout_(&plan.result, type_of(p.out_dtype), n, m, p.out_stride), "layout of out");
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment);
    const cublasStatus_t status =
        heuristic_(handle_, operation_, plan.left, plan.right, plan.result, plan.result, preference_,
                   kMaxAlgorithms, plan.proposals, &plan.count);
    if (status != CUBLAS_STATUS_NOT_SUPPORTED) check(status, "cublasLtMatmulAlgoGetHeuristic");
    return plan;
  }

  void* library_;  // stays loaded: its kernels may still be in captured graphs
  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatmulDesc_t operation_ = nullptr;
  cublasLtMatmulPreference_t preference_ = nullptr;
  std::mutex mutex_;
  std::map<Key, Plan> plans_;  // whose nodes stay where they are

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

CublasLt* CublasLt::of_current_device(const char** why) {
  static std::mutex mutex;
  static std::map<int, std::unique_ptr<CublasLt>> loaded;
  const std::lock_guard lock(mutex);
  int device = 0;
  LLAMITA_CUDA_CHECK(cudaGetDevice(&device));
  std::unique_ptr<CublasLt>& own = loaded[device];
  for (const char* name :
       {"libcublasLt.so.13", "/usr/local/cuda/lib64/libcublasLt.so.13", "libcublasLt.so"}) {
    if (own != nullptr) break;
    if (void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL)) own = std::make_unique<Loaded>(library);
  }
  if (own == nullptr) *why = "libcublasLt.so.13 is not on the library path";
  return own.get();
}

}  // namespace llamita::cuda

#else

namespace llamita::cuda {

CublasLt* CublasLt::of_current_device(const char** why) {
  *why = "built without cublasLt.h";
  return nullptr;
}

}  // namespace llamita::cuda

#endif
