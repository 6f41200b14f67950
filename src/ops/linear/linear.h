// linear: out = x W^T (+ bias) (+ residual), with W of any weight format. W stays packed; every variant reads
// it as it is stored. x is f32; for block formats the default variants round it to int8 once a call, one
// scale for 32 elements (K-quants: 256), NMSE 2.9e-5 (4.8e-5) on normal data, and then lose nothing but f32's
// last bits (int8.h). LLAMITA_KERNEL=linear=cpu_panel_avx2 (or _avx512, or linear=reference) leaves x exact.
// Reduction order: for each output one f32 accumulation over ascending K, the same at any T, any N and any
// number of threads within one instruction set, so a token's result does not depend on what else is in the
// batch. The integer variants give the same bits on all instruction sets. On a GPU sums are f32 in the tensor
// cores' order, x is rounded to the weights' 16-bit type, and a result may depend on how many tokens a step
// has.
#pragma once

#include "ops/norm/prepared_norm.h"
#include "ops/op.h"
#include "quant/weight.h"

namespace llamita {

struct LinearArgs {
  Tensor x;                               // (T, K) f32, on a GPU also bf16 or f16; rows may be strided
  const quant::Weight* weight = nullptr;  // (N, K)
  Tensor bias;                            // (N) f32 or undefined
  Tensor residual;                        // (T, N) as out, or undefined; may be out
  Tensor out;                             // (T, N) f32, on a GPU also bf16 or f16; rows may be strided
  // Of out, which is f32 then: the first half of the RMS norm that follows, with its gain; or both undefined.
  Tensor next_gain = {};  // (N) f32
  PreparedNorm prepared = {};
};

// How the weights of block formats should lie for the variants that run on such a machine; one of other
// parts, or whose rows are no whole groups, stays in rows.
quant::Layout linear_layout(const Caps& caps);
// The same for this machine's processor.
quant::Layout linear_cpu_layout();

const Op<LinearArgs>& linear_op();
inline void linear(const LinearArgs& args, Context& context) { run(linear_op(), args, context); }

}  // namespace llamita
