// The variants of linear; the table in linear.cc lists them.
#pragma once

#include "ops/linear/linear.h"

namespace llamita {

void linear_reference(const LinearArgs& args, Context& context);

// The kernels of kernels.h over all parts of a weight, in either layout.
void linear_cpu_rows_avx2(const LinearArgs& args, Context& context);
void linear_cpu_panel_avx2(const LinearArgs& args, Context& context);
void linear_cpu_rows_avx512(const LinearArgs& args, Context& context);
void linear_cpu_panel_avx512(const LinearArgs& args, Context& context);

// Arena bytes of the four above: a copy of x filled up with zeros where K is no multiple of 32.
int64_t linear_cpu_scratch_bytes(const LinearArgs& args, const Caps& caps);

// The integer variants: int8.h. For weights with at least one part in a block format.
void linear_int8_reference(const LinearArgs& args, Context& context);
void linear_cpu_int8_avx2(const LinearArgs& args, Context& context);
void linear_cpu_int8_avx512(const LinearArgs& args, Context& context);
bool linear_has_blocks(const LinearArgs& args);
int64_t linear_int8_scratch_bytes(const LinearArgs& args, const Caps& caps);

}  // namespace llamita
