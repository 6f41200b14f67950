// What crosses from the generic code of attention into the per-ISA files: one work item for one KV head, as
// plain pointers.
#pragma once

#include <cstdint>

#include "quant/kv_format.h"
#include "tensor/dtype.h"

namespace llamita {

// Rows of one sequence by the query heads that share one KV head.
struct AttentionJob {
  const float* q;  // (rows, group, D), rows `q_stride` apart, heads D apart
  int64_t q_stride;
  float* out;  // the same shape
  int64_t out_stride;
  int64_t rows, group;     // at most kMaxQueries together
  int64_t D;               // a multiple of 16, at most kMaxHeadDim
  int64_t first_position;  // of the first row; the others follow
  int64_t window;          // keys a row sees, 0: all
  int64_t keys;            // every row sees this many; 0: those up to its own position
  float scale;
  DType dtype;          // of the cache
  const void* k_cache;  // this head's first page: + page * page_stride elements
  const void* v_cache;
  int64_t page_stride;
  int64_t scales_offset;  // i8: bytes from this head's rows of a page to their scales, fp16
  const int32_t* pages;   // of the sequence
};

// Keys are merged in partitions of so many, at absolute positions: short enough that a context of 4k keys
// keeps 8 threads at work, long enough that merging, D multiplications and two exponentials, is nothing.
inline constexpr int kPartitionKeys = 8 * kPageTokens;

inline constexpr int kMaxHeadDim = 256;
inline constexpr int kMaxQueries = 256;  // 16 rows by 16 heads

// What one partition of the keys gives: (queries, D) unnormalised outputs, then the queries' largest scores,
// then their sums of e^.
inline int64_t partial_floats(int64_t queries, int64_t D) { return queries * (D + 2); }

// All keys at once, or a partition to `partial` and then the partitions, which lie `stride` floats apart,
// merged: the same bits.
struct AttentionKernels {
  void (*all)(const AttentionJob& job);
  void (*partition)(const AttentionJob& job, int64_t partition, float* partial);
  void (*merge)(const AttentionJob& job, const float* partials, int64_t stride);
};
extern const AttentionKernels kAttentionAvx2, kAttentionAvx512;          // of f32, f16 and bf16
extern const AttentionKernels kAttentionInt8Avx2, kAttentionInt8Avx512;  // of i8

}  // namespace llamita
