// The skinny Hopper product for f16.
#include "ops/linear/skinny_rows_sm90.cuh"

namespace llamita {

void skinny_sm90_f16(const SkinnySm90& g, const SkinnyPlan& plan, Context& context) {
  skinny_sm90_detail::run<__half>(g, plan, context);
}

}  // namespace llamita
