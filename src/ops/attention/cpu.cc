// From the arguments of attention to the per-ISA kernels. The threads take pairs of a plan's item and a KV
// head, so that one sequence decoding alone still uses as many cores as it has KV heads.
#include "ops/cpu.h"

#include "ops/attention/kernels.h"
#include "ops/attention/variants.h"

namespace llamita {

namespace {

AttentionJob job_of(const AttentionArgs& args, const AttentionPlan::Item& item, int64_t kv_head) {
  const int64_t H = args.q.dim(1), D = args.q.dim(2), group = H / args.k_cache.dim(1);
  const int64_t head_bytes = kPageTokens * D * info(args.k_cache.dtype()).block_bytes;
  const auto head_pages = [&](const Tensor& cache) {
    return static_cast<const char*>(cache.data()) + kv_head * head_bytes;
  };
  return {.q = args.q.ptr<float>() + item.q_begin * args.q.stride(0) + kv_head * group * D,
          .q_stride = args.q.stride(0),
          .out = args.out.ptr<float>() + item.q_begin * args.out.stride(0) + kv_head * group * D,
          .out_stride = args.out.stride(0),
          .rows = item.q_end - item.q_begin,
          .group = group,
          .D = D,
          .first_position = item.first_position,
          .window = args.window,
          .keys = args.causal ? 0 : args.kv_len.ptr<int32_t>()[item.sequence],
          .scale = args.scale,
          .dtype = args.k_cache.dtype(),
          .k_cache = head_pages(args.k_cache),
          .v_cache = head_pages(args.v_cache),
          .page_stride = args.k_cache.stride(0),
          .pages = args.block_table.ptr<int32_t>() + item.sequence * args.block_table.stride(0)};
}

void run_items(const AttentionArgs& args, Context& context, void (*kernel)(const AttentionJob&)) {
  const auto& items = args.plan->items;
  const int64_t Hkv = args.k_cache.dim(1);
  context.pool().parallel_for(static_cast<int64_t>(items.size()) * Hkv, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) kernel(job_of(args, items[static_cast<size_t>(i / Hkv)], i % Hkv));
  });
}

}  // namespace

void attention_cpu_avx2(const AttentionArgs& args, Context& context) {
  run_items(args, context, attention_avx2);
}
void attention_cpu_avx512(const AttentionArgs& args, Context& context) {
  run_items(args, context, attention_avx512);
}

bool attention_cpu_supports(const AttentionArgs& args) {
  const int64_t D = args.q.dim(2), group = args.q.dim(1) / args.k_cache.dim(1);
  return D % 16 == 0 && D <= kMaxHeadDim && group * AttentionPlan::kRowsPerItem <= kMaxQueries &&
         args.k_cache.stride(0) == args.v_cache.stride(0);
}

}  // namespace llamita
