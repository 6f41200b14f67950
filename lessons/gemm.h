// The problem of the GEMM ladder and its steps. C(M,N) = A(M,K) B(N,K)^T: bf16 in, fp32 sums, bf16 out;
// activations times weights as every linear layer stores them. All matrices are dense and row-major, so both
// inputs have K innermost.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <span>

namespace llamita::lessons {

struct Gemm {
  const __nv_bfloat16* a;  // (M, K)
  const __nv_bfloat16* b;  // (N, K)
  __nv_bfloat16* c;        // (M, N)
  int m;
  int n;  // a multiple of 8
  int k;  // a multiple of 8, so that rows start on 16-byte borders
};

struct GemmContext {
  cudaStream_t stream;
  int sm_count;
};

struct GemmLesson {
  const char* name;
  const char* idea;
  bool sm90a;         // runs on compute capability 9.0 alone
  double slow_gflop;  // larger problems than this take too long to be worth the wait
  void (*run)(const Gemm&, const GemmContext&);
};

std::span<const GemmLesson> gemm_lessons();

void gemm_01_naive(const Gemm&, const GemmContext&);
void gemm_02_coalesced(const Gemm&, const GemmContext&);
void gemm_03_shared_tiles(const Gemm&, const GemmContext&);
void gemm_04_register_tiles(const Gemm&, const GemmContext&);
void gemm_05_mma_sync(const Gemm&, const GemmContext&);
void gemm_06_cp_async(const Gemm&, const GemmContext&);
void gemm_07_tma_wgmma(const Gemm&, const GemmContext&);
void gemm_08_warp_specialised(const Gemm&, const GemmContext&);
void gemm_09_persistent(const Gemm&, const GemmContext&);
void gemm_10_ping_pong(const Gemm&, const GemmContext&);
void gemm_11_tile_widths(const Gemm&, const GemmContext&);
void gemm_12_split_k(const Gemm&, const GemmContext&);

}  // namespace llamita::lessons
