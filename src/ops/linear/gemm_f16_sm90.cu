// The Hopper GEMM for f16.
#include "ops/linear/gemm_sm90.cuh"

namespace llamita {

void gemm_sm90_f16(const GemmSm90& gemm, GemmTile tile, Context& context) {
  gemm_sm90_detail::run<__half>(gemm, tile, context);
}

}  // namespace llamita
