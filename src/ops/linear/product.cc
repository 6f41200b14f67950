// From the arguments of linear to the integer kernels: the activations are rounded once, then every part in a
// block format is multiplied in integers and every part of a plain type in f32.
#include "ops/linear/int8.h"
#include "ops/linear/parts.h"
#include "ops/linear/variants.h"

namespace llamita {

namespace {

struct Kernels {
  void (*round_row)(const float* x, int64_t K, int64_t t, const Int8Rows& to);
  void (*pack_tile)(int64_t K, int64_t t, int64_t count, const Int8Rows& x);  // nullptr: rows do
  void (*multiply)(const Int8Job& job, int64_t begin, int64_t end);
  void (*plain_few)(const LinearJob& job, int64_t begin, int64_t end);  // these two give the same bits
  void (*plain_many)(const LinearJob& job, int64_t begin, int64_t end);
  int64_t unit;
  int64_t few_tokens;  // of an interleaved weight, which need no tiles
};

bool needs(const LinearArgs& args, Int8Run run) {
  const std::vector<quant::Part>& parts = args.weight->parts;
  return std::any_of(parts.begin(), parts.end(),
                     [&](const quant::Part& part) { return int8_run(part.format) == run; });
}

int64_t tiles_of(int64_t T) { return (T + kTileTokens - 1) / kTileTokens; }

// Whether the panels will want tiles.
bool packs(const LinearArgs& args, const Kernels& kernels) {
  const bool few = args.weight->layout == quant::Layout::interleaved && args.x.dim(0) <= kernels.few_tokens;
  return kernels.pack_tile != nullptr && !few;
}

void take_tiles(int64_t T, int64_t K, Arena& arena, Int8Rows& rows) {
  rows.tiles = arena.take(DType::i8, {T, K}).ptr<int8_t>();
  rows.tile_scales = arena.take(DType::f32, {T, K / elems_of(rows.run)}).ptr<float>();
  if (rows.run == Int8Run::of32) rows.tile_scaled_sums = arena.take(DType::f32, {T, K / 32}).ptr<float>();
  rows.tile_sums = arena.take(DType::i32, {T, K / 32}).ptr<int32_t>();
}

// The activations rounded in runs of `run` elements, where a part needs them so.
Int8Rows rounded(const LinearArgs& args, Int8Run run, const Kernels& kernels, Context& context) {
  if (!needs(args, run)) return {};
  const int64_t T = args.x.dim(0), K = args.weight->cols;
  Arena& arena = context.arena();
  Int8Rows rows{.run = run,
                .q = arena.take(DType::i8, {T, K}).ptr<int8_t>(),
                .scales = arena.take(DType::f32, {T, K / elems_of(run)}).ptr<float>()};
  if (run == Int8Run::of32) rows.scaled_sums = arena.take(DType::f32, {T, K / 32}).ptr<float>();
  rows.sums = arena.take(DType::i32, {T, K / 32}).ptr<int32_t>();
  const bool pack = packs(args, kernels);
  const int64_t tiles = tiles_of(T);
  if (pack) take_tiles(tiles * kTileTokens, K, arena, rows);
  context.pool().parallel_for(tiles, grain_for(kTileTokens * K), [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) {
      const int64_t first = tile * kTileTokens, count = std::min<int64_t>(kTileTokens, T - first);
      for (int64_t t = first; t < first + count; ++t) {
        kernels.round_row(args.x.ptr<float>() + t * args.x.stride(0), K, t, rows);
      }
      if (pack) kernels.pack_tile(K, first, count, rows);
    }
  });
  return rows;
}

void run_int8(const LinearArgs& args, Context& context, const Kernels& kernels) {
  const Arena::Scope scope(context.arena());
  const Int8Rows of32 = rounded(args, Int8Run::of32, kernels, context);
  const Int8Rows of256 = rounded(args, Int8Run::of256, kernels, context);
  for_parts(args, args.x, context, kernels.unit, [&](const LinearJob& job, int64_t begin, int64_t end) {
    const Int8Run run = int8_run(job.format);
    if (run != Int8Run::none) {
      kernels.multiply({job, run == Int8Run::of32 ? of32 : of256}, begin, end);
    } else {
      (job.T < 8 ? kernels.plain_few : kernels.plain_many)(job, begin, end);
    }
  });
}

void multiply_reference(const Int8Job& job, int64_t begin, int64_t end) {
  multiply_rows(job.plain, begin, end, [&](const LinearJob& rows, int64_t from, int64_t to) {
    int8_multiply_scalar({rows, job.x}, from, to);
  });
}

constexpr Kernels kReference{
    int8_round_row_scalar, nullptr, multiply_reference, plain_multiply_scalar, plain_multiply_scalar, 16, 0};
constexpr Kernels kAvx2{int8_round_row_avx2, int8_pack_tile_avx2, int8_multiply_avx2, linear_rows_avx2,
                        linear_panel_avx2,   kInt8RowsAvx2,       kInt8FewTokensAvx2};
constexpr Kernels kAvx512{int8_round_row_avx512, int8_pack_tile_avx512, int8_multiply_avx512,
                          linear_rows_avx512,    linear_panel_avx512,   kInt8RowsAvx512,
                          kInt8FewTokensAvx512};

int64_t scratch_bytes(const LinearArgs& args, const Kernels& kernels) {
  const int64_t T = args.x.dim(0), K = args.weight->cols;
  const auto taken = [](int64_t bytes) { return (bytes + 63) / 64 * 64; };  // as the arena aligns
  const auto of_tokens = [&](int64_t tokens) {
    const int64_t all = tokens * K;
    int64_t bytes = 0;
    if (needs(args, Int8Run::of32)) bytes += taken(all) + 3 * taken(all / 8);
    if (needs(args, Int8Run::of256)) bytes += taken(all) + taken(all / 64) + taken(all / 8);
    return bytes;
  };
  return of_tokens(T) + (packs(args, kernels) ? of_tokens(tiles_of(T) * kTileTokens) : 0);
}

}  // namespace

void linear_int8_reference(const LinearArgs& args, Context& context) { run_int8(args, context, kReference); }
void linear_cpu_int8_avx2(const LinearArgs& args, Context& context) { run_int8(args, context, kAvx2); }
void linear_cpu_int8_avx512(const LinearArgs& args, Context& context) { run_int8(args, context, kAvx512); }

bool linear_has_blocks(const LinearArgs& args) {
  return needs(args, Int8Run::of32) || needs(args, Int8Run::of256);
}

int64_t linear_int8_reference_scratch_bytes(const LinearArgs& args, const Caps&) {
  return scratch_bytes(args, kReference);
}
int64_t linear_cpu_int8_avx2_scratch_bytes(const LinearArgs& args, const Caps&) {
  return scratch_bytes(args, kAvx2);
}
int64_t linear_cpu_int8_avx512_scratch_bytes(const LinearArgs& args, const Caps&) {
  return scratch_bytes(args, kAvx512);
}

}  // namespace llamita
