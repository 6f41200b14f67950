// The skinny Hopper product for bf16.
#include "ops/linear/skinny_rows_sm90.cuh"

namespace llamita {

void skinny_sm90_bf16(const SkinnySm90& g, const SkinnyPlan& plan, Context& context) {
  skinny_sm90_detail::run<__nv_bfloat16>(g, plan, context);
}

}  // namespace llamita
