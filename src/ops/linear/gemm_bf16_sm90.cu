// The Hopper GEMM for bf16.
#include "ops/linear/gemm_sm90.cuh"

namespace llamita {

void gemm_sm90_bf16(const GemmSm90& gemm, GemmTile tile, Context& context) {
  gemm_sm90_detail::run<__nv_bfloat16>(gemm, tile, context);
}

}  // namespace llamita
