// Whether vdpbf16ps is worth rounding activations for.
#pragma once

namespace llamita::cpu {

// True where it does twice the products of an f32 multiply-add: on AMD's processors (Zen 4: 233 GFLOP/s a core
// against 117). Intel's with AMX do half as many as with multiply-adds (82 against 148 to 177).
bool bf16_is_faster_than_f32();

}  // namespace llamita::cpu
