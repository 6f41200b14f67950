// From the arguments of attention to the per-ISA kernels. The threads take pairs of a plan's item and a KV
// head. Where there are too few of those to keep the threads evenly at work, as when one sequence decodes
// with three KV heads, they take the partitions of the keys apart, and merge them in a second region.
#include "ops/cpu.h"

#include "ops/attention/kernels.h"
#include "ops/attention/variants.h"

namespace llamita {

namespace {

AttentionJob job_of(const AttentionArgs& args, const AttentionPlan::Item& item, int64_t kv_head) {
  const int64_t H = args.q.dim(1), D = args.q.dim(2), group = H / args.k_cache.dim(1);
  const int64_t Hkv = args.k_cache.dim(1);
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
          .scales_offset =
              (Hkv - kv_head) * head_bytes + kv_head * kPageTokens * static_cast<int64_t>(sizeof(f16)),
          .pages = args.block_table.ptr<int32_t>() + item.sequence * args.block_table.stride(0)};
}

// Pairs of rows and KV heads below which the keys are split.
int64_t few_pairs(int64_t threads) { return threads > 1 ? 4 * threads : 0; }

int64_t partitions_of(const AttentionArgs& args) {
  return (args.plan->max_kv_len + kPartitionKeys - 1) / kPartitionKeys;
}

void run_items(const AttentionArgs& args, Context& context, const AttentionKernels& kernels) {
  const auto& items = args.plan->items;
  const int64_t Hkv = args.k_cache.dim(1), pairs = static_cast<int64_t>(items.size()) * Hkv;
  ThreadPool& pool = context.pool();
  const auto job = [&](int64_t pair) {
    return job_of(args, items[static_cast<size_t>(pair / Hkv)], pair % Hkv);
  };
  const int64_t T = args.q.dim(0), partitions = partitions_of(args);
  if (partitions < 2 || T * Hkv >= few_pairs(pool.threads())) {
    return pool.parallel_for(pairs, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) kernels.all(job(i));
    });
  }
  const Arena::Scope scope(context.arena());
  const int64_t H = args.q.dim(1), D = args.q.dim(2), stride = partial_floats(T * H, D);
  auto* partials = context.arena().take(DType::f32, {partitions, stride}).ptr<float>();
  const auto partial_of = [&](int64_t pair) {
    const AttentionPlan::Item& item = items[static_cast<size_t>(pair / Hkv)];
    const int64_t queries = (item.q_end - item.q_begin) * (H / Hkv);
    return partials + partial_floats(item.q_begin * H + pair % Hkv * queries, D);
  };
  pool.parallel_for(pairs * partitions, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t pair = i / partitions, partition = i % partitions;
      kernels.partition(job(pair), partition, partial_of(pair) + partition * stride);
    }
  });
  pool.parallel_for(pairs, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) kernels.merge(job(i), partial_of(i), stride);
  });
}

}  // namespace

void attention_cpu_avx2(const AttentionArgs& args, Context& context) {
  run_items(args, context, is_float(args.k_cache.dtype()) ? kAttentionAvx2 : kAttentionInt8Avx2);
}
void attention_cpu_avx512(const AttentionArgs& args, Context& context) {
  run_items(args, context, is_float(args.k_cache.dtype()) ? kAttentionAvx512 : kAttentionInt8Avx512);
}

// Of the largest step that splits its keys within the bounds, whether this one does or not: a step of many
// tokens may be followed by one of few.
int64_t attention_cpu_scratch_bytes(const AttentionArgs& args, const Caps& caps) {
  const int64_t T = args.q.dim(0), H = args.q.dim(1), D = args.q.dim(2), Hkv = args.k_cache.dim(1);
  const int64_t rows = std::min(T, (few_pairs(caps.threads) + Hkv - 1) / Hkv);
  const auto bytes = static_cast<int64_t>(sizeof(float));
  return (partitions_of(args) * partial_floats(rows * H, D) * bytes + 63) / 64 * 64;
}

bool attention_cpu_supports(const AttentionArgs& args) {
  const int64_t D = args.q.dim(2), group = args.q.dim(1) / args.k_cache.dim(1);
  return D % 16 == 0 && D <= kMaxHeadDim && group * AttentionPlan::kRowsPerItem <= kMaxQueries &&
         args.k_cache.stride(0) == args.v_cache.stride(0);
}

}  // namespace llamita
