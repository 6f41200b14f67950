#include "ops/attention/attention.h"

#include <algorithm>

#include "ops/attention/variants.h"
#include "ops/cpu.h"
#include "ops/cuda.h"
#include "ops/shape_check.h"

namespace llamita {

namespace {

void check(const AttentionArgs& args) {
  const int64_t T = args.q.dim(0), H = args.q.dim(1), D = args.q.dim(2);
  const int64_t pages = args.k_cache.dim(0), Hkv = args.k_cache.dim(1), B = args.kv_len.dim(0);
  check_shape("attention", "q", args.q, passing_dtype(args.q), {{"T", T}, {"H", H}, {"D", D}});
  for (const Tensor& cache : {args.k_cache, args.v_cache}) {
    check_kv_side("attention", cache, args.k_cache.dtype(), pages, Hkv, D);
  }
  LLAMITA_CHECK(Hkv > 0 && H % Hkv == 0, "attention: H ", H, " must be a multiple of Hkv ", Hkv);
  check_shape("attention", "q_start", args.q_start, DType::i32, {{"B+1", B + 1}});
  check_shape("attention", "kv_len", args.kv_len, DType::i32, {{"B", B}});
  check_shape("attention", "block_table", args.block_table, DType::i32,
              {{"B", B}, {"max_blocks", args.block_table.dim(1)}});
  check_shape("attention", "out", args.out, passing_dtype(args.out), {{"T", T}, {"H", H}, {"D", D}});
  LLAMITA_CHECK(args.plan != nullptr, "attention: no plan");
  LLAMITA_CHECK(args.window >= 0 && (args.causal || args.window == 0), "attention: window ", args.window,
                args.causal ? "" : " without causal");
  const int64_t needed = (args.plan->max_kv_len + kPageTokens - 1) / kPageTokens;
  LLAMITA_CHECK(needed <= args.block_table.dim(1), "attention: block_table (B, max_blocks) has max_blocks ",
                args.block_table.dim(1), ", ", args.plan->max_kv_len, " keys need ", needed);
}

// A plan of bounds alone: the most that a step within them can ask for.
bool only_bounds(const AttentionArgs& args) { return args.plan->items.empty(); }
double most_keys(const AttentionArgs& args) {
  const int32_t keys = args.plan->max_kv_len;
  return args.window > 0 ? std::min(keys, args.window) : keys;
}

// Pairs of a row and a key it sees.
double score_count(const AttentionArgs& args) {
  if (only_bounds(args)) return static_cast<double>(args.q.dim(0)) * most_keys(args);
  double sum = 0;
  for (const AttentionPlan::Item& item : args.plan->items) {
    for (int32_t row = item.q_begin; row < item.q_end; ++row) {
      const int32_t position = item.first_position + (row - item.q_begin);
      const int32_t keys = args.causal ? position + 1 : args.plan->max_kv_len;
      sum += args.window > 0 ? std::min(keys, args.window) : keys;
    }
  }
  return sum;
}

// The keys each sequence's rows see, every one counted once.
double key_count(const AttentionArgs& args) {
  if (only_bounds(args)) return static_cast<double>(args.kv_len.dim(0)) * most_keys(args);
  struct Range {
    int64_t begin = INT64_MAX, end = 0;
  };
  std::vector<Range> ranges(static_cast<size_t>(args.kv_len.dim(0)));
  for (const AttentionPlan::Item& item : args.plan->items) {
    Range& range = ranges[static_cast<size_t>(item.sequence)];
    const int64_t first = args.window > 0 ? std::max(0, item.first_position + 1 - args.window) : 0;
    range.begin = std::min(range.begin, first);
    range.end = std::max<int64_t>(range.end, item.first_position + item.q_end - item.q_begin);
  }
  double sum = 0;
  for (const Range& range : ranges) sum += static_cast<double>(std::max<int64_t>(range.end - range.begin, 0));
  return sum;
}

Cost cost(const AttentionArgs& args) {
  const auto q_bytes = info(args.q.dtype()).block_bytes * static_cast<double>(args.q.elems());
  const auto H = static_cast<double>(args.q.dim(1)), D = static_cast<double>(args.q.dim(2));
  const auto Hkv = static_cast<double>(args.k_cache.dim(1));
  const KvFormat format{args.k_cache.dtype()};
  const double kv_bytes = 2 * key_count(args) * Hkv * static_cast<double>(format.row_bytes(args.q.dim(2)));
  return {.bytes_read = q_bytes + kv_bytes, .bytes_written = q_bytes, .flops = 4 * score_count(args) * H * D};
}

template <cpu::Isa isa>
bool has_kernel(const AttentionArgs& args, const Caps& caps) {
  return on_cpu(args, caps) && caps.isa >= isa && attention_cpu_supports(args);
}

// Only comparisons matter.
template <cpu::Isa isa>
double vector_us(const AttentionArgs& args, const Caps&) {
  return (isa == cpu::Isa::avx512 ? 3e-5 : 5e-5) * score_count(args) * static_cast<double>(args.q.dim(1));
}

#if LLAMITA_HAVE_CUDA
// Rows of a sequence and the heads of a KV head share tiles of 16; every tile reads the keys again.
double paged_decode_us(const AttentionArgs& args, const Caps& caps) {
  const int64_t group = args.q.dim(1) / args.k_cache.dim(1);
  const auto tiles = static_cast<double>((args.plan->max_q_len * group + 15) / 16);
  const Cost work = cost(args);
  return kCudaLaunchUs + tiles * std::max(cuda_memory_us(caps, work.bytes_read),
                                          4 * cuda_mma_us(caps, work.flops / std::max(tiles, 1.0)));
}

// 0.58 to 0.80 of paged_decode's time (docs/performance/gpu.md, 12 and 64 sequences of 100 to 250 keys).
double paged_decode_sm90_us(const AttentionArgs& args, const Caps& caps) {
  return 0.75 * paged_decode_us(args, caps);
}

// One block walks over all keys of its rows: about 0.5 us a page of few rows and 3 us of 128, however few
// blocks there are, after 2 us for the first. (608 rows and keys of a 7B shape take 33 us on an H100.)
double flash2_us(const AttentionArgs& args, const Caps& caps) {
  const Cost work = cost(args);
  const double page_us = 0.5 + 2.5 * std::min(args.plan->max_q_len, 128) / 128;
  const double walk = 2 + page_us * most_keys(args) / kPageTokens;
  return kCudaLaunchUs + std::max(walk, 2 * cuda_mma_us(caps, work.flops)) +
         cuda_memory_us(caps, work.bytes_read);
}

// Tiles of 128 rows or more, whether the sequence has them or not: decode tokens waste most of one.
double flash3_us(const AttentionArgs& args, const Caps& caps) {
  const Cost work = cost(args);
  return 8 + 1.2 * cuda_mma_us(caps, work.flops) + 2 * cuda_memory_us(caps, work.bytes_read);
}

// Steps of the ladder that are never the best choice; LLAMITA_KERNEL=attention=... takes them.
double flash1_us(const AttentionArgs& args, const Caps& caps) { return 10 * flash2_us(args, caps); }
double online_us(const AttentionArgs& args, const Caps& caps) {
  return 2 * kCudaLaunchUs + 40 * cuda_mma_us(caps, cost(args).flops) + 0.1 * most_keys(args);
}

double naive_us(const AttentionArgs& args, const Caps& caps) { return 10 * online_us(args, caps); }
#endif

constexpr Variant<AttentionArgs> kVariants[] = {
#if LLAMITA_HAVE_CUDA
    {.name = "paged_decode",
     .supports =
         [](const AttentionArgs& args, const Caps& caps) {
           return on_cuda(args, caps) && attention_paged_decode_supports(args);
         },
     .estimate_us = paged_decode_us,
     .run = attention_cuda_paged_decode,
     .scratch_bytes = attention_paged_decode_scratch},
    {.name = "paged_decode_sm90",
     .supports = attention_decode_sm90_supports,
     .estimate_us = paged_decode_sm90_us,
     .run = attention_paged_decode_sm90,
     .scratch_bytes = attention_decode_sm90_scratch},
    {.name = "flash3_sm90",
     .supports = attention_flash3_supports,
     .estimate_us = flash3_us,
     .run = attention_flash3_sm90,
     .scratch_bytes = attention_flash3_scratch_bytes},
    {.name = "flash2_sm80",
     .supports = [](const AttentionArgs& args,
                    const Caps& caps) { return on_cuda(args, caps) && attention_flash2_supports(args); },
     .estimate_us = flash2_us,
     .run = attention_cuda_flash2},
    {.name = "flash1_sm80",
     .supports = [](const AttentionArgs& args,
                    const Caps& caps) { return on_cuda(args, caps) && attention_flash1_supports(args); },
     .estimate_us = flash1_us,
     .run = attention_cuda_flash1,
     .scratch_bytes = attention_flash1_scratch},
    {.name = "online_softmax",
     .supports = [](const AttentionArgs& args,
                    const Caps& caps) { return on_cuda(args, caps) && attention_cuda_online_supports(args); },
     .estimate_us = online_us,
     .run = attention_cuda_online},
    {.name = "naive",
     .supports = [](const AttentionArgs& args,
                    const Caps& caps) { return on_cuda(args, caps) && attention_naive_supports(args); },
     .estimate_us = naive_us,
     .run = attention_cuda_naive},
#endif
    {.name = "cpu_paged_avx512",
     .supports = has_kernel<cpu::Isa::avx512>,
     .estimate_us = vector_us<cpu::Isa::avx512>,
     .run = attention_cpu_avx512,
     .scratch_bytes = attention_cpu_scratch_bytes},
    {.name = "cpu_paged_avx2",
     .supports = has_kernel<cpu::Isa::avx2>,
     .estimate_us = vector_us<cpu::Isa::avx2>,
     .run = attention_cpu_avx2,
     .scratch_bytes = attention_cpu_scratch_bytes},
    {.name = "reference",
     .supports = on_cpu,
     .estimate_us = [](const AttentionArgs& args,
                       const Caps&) { return 2e-3 * score_count(args) * static_cast<double>(args.q.dim(1)); },
     .run = attention_reference},
};

}  // namespace

const Op<AttentionArgs>& attention_op() {
  static constexpr Op<AttentionArgs> kOp{"attention", check, cost, kVariants};
  return kOp;
}

}  // namespace llamita
