// An oracle for attention over a paged cache: one row and head at a time, in fp64, on the card.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace llamita::bench {

struct PagedRow {
  const __nv_bfloat16* q;    // (D), the row's head
  const __nv_bfloat16* k;    // (pages, Hkv, 64, D)
  const __nv_bfloat16* v;    // the same
  const int32_t* pages;      // of the sequence
  const __nv_bfloat16* out;  // (D), what is judged
  int kv_heads;
  int kv_head;
  int dim;
  int begin, end;  // keys the row sees
  float scale;
  double* weights;  // (end - begin), scratch
};

// Adds |out - reference|^2 and |reference|^2 of the row to sums[0] and sums[1] on the device.
void judge_row(const PagedRow& row, double* sums, cudaStream_t stream);

}  // namespace llamita::bench
