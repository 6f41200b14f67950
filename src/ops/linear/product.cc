#include "ops/linear/product.h"

#include <atomic>
#include <cstring>

#include "ops/cpu.h"
#include "quant/interleave.h"

namespace llamita {

namespace {

constexpr int64_t kGroup = 32;  // elements that the plain and bf16 kernels read at once
// Rows of an interleaved weight that are put back at once: whole groups, and whole units of every kernel.
constexpr int64_t kRowsPutBack = 48;

int64_t padded(int64_t K) { return (K + kGroup - 1) / kGroup * kGroup; }
int64_t tiles_of(int64_t T) { return (T + kTileTokens - 1) / kTileTokens; }

bool is_interleaved(const LinearArgs& args) { return args.weight->layout == quant::Layout::interleaved; }

// A unit of an interleaved weight is whole groups.
int64_t unit_of(const LinearArgs& args, const CpuKernels& kernels) {
  const bool put_back = is_interleaved(args) && (kernels.int8_multiply == nullptr || kernels.int8_reads_rows);
  return put_back ? kRowsPutBack : kernels.unit;
}

// kernel(job, count) for kernels that read rows: those of an interleaved weight are put back some at a time.
template <class Kernel>
void multiply_rows(const LinearJob& job, int64_t count, Kernel kernel) {
  if (!job.interleaved) return kernel(job, count);
  thread_local std::vector<std::byte> rows;
  rows.resize(static_cast<size_t>(kRowsPutBack * job.weight_stride));
  const auto* groups = reinterpret_cast<const std::byte*>(job.weight);
  for (int64_t n = 0; n < count; n += kRowsPutBack) {
    LinearJob some = job;
    const int64_t some_count = std::min(kRowsPutBack, count - n);
    for (int64_t r = n; r < n + some_count; ++r) {
      const int64_t group = r / quant::kGroupRows * quant::kGroupRows;
      quant::extract_row(job.format, groups + group * job.weight_stride, static_cast<int>(r - group), job.K,
                         rows.data() + (r - n) * job.weight_stride);
    }
    some.weight = reinterpret_cast<const uint8_t*>(rows.data());
    some.interleaved = false;
    some.out += n;
    if (some.bias != nullptr) some.bias += n;
    if (some.residual != nullptr) some.residual += n;
    kernel(some, some_count);
  }
}

}  // namespace

CpuProduct::CpuProduct(const LinearArgs& args, const CpuKernels& kernels, Arena& arena)
    : args_(args), kernels_(kernels), unit_(unit_of(args, kernels)), x_(args.x) {
  const bool few = is_interleaved(args) && T() <= kernels.int8_few_tokens;
  const bool integers = kernels.int8_multiply != nullptr;
  needs_of32_ = integers && needs(Int8Run::of32);
  needs_of256_ = integers && needs(Int8Run::of256);
  packs_ = integers && kernels.int8_pack_tile != nullptr && !few;
  if (needs_of32_) of32_ = take_rounded(Int8Run::of32, arena);
  if (needs_of256_) of256_ = take_rounded(Int8Run::of256, arena);
  if (packs_) {
    left_ = arena.take(DType::i32, {tiles_of(T())}).ptr<int32_t>();
    for (int64_t tile = 0; left_ != nullptr && tile < tiles_of(T()); ++tile) {
      left_[tile] = static_cast<int32_t>(std::min<int64_t>(kTileTokens, T() - tile * kTileTokens));
    }
  }
  const bool plain = kernels.bf16_multiply == nullptr && (!integers || needs(Int8Run::none));
  tiles_plain_ = plain && kernels.plain_tile_lanes != 0 &&
                 (T() > kernels.plain_few_tokens || kernels.plain_few == kernels.plain_many);
  if (kernels.bf16_multiply != nullptr) {
    bf16_ = {true, static_cast<uint16_t*>(arena.take(DType::bf16, {T(), padded(K())}).data())};
  } else if (tiles_plain_) {
    const int64_t tiles = (T() + kPanelTokens - 1) / kPanelTokens;
    x_tiles_ = arena.take(DType::f32, {padded(K()), tiles, kPanelTokens}).ptr<float>();
  } else if (!integers && padded(K()) != K()) {
    pads_ = true;
    x_ = arena.take(DType::f32, {T(), padded(K())});
  }
}

bool CpuProduct::needs(Int8Run run) const {
  return std::any_of(parts().begin(), parts().end(),
                     [&](const quant::Part& part) { return int8_run(part.format) == run; });
}

// Memory for the activations rounded in runs of `run` elements, and for their tiles.
Int8Rows CpuProduct::take_rounded(Int8Run run, Arena& arena) const {
  const bool scaled_sums = run == Int8Run::of32;
  const auto floats = [&](int64_t tokens, int64_t elems) {
    return arena.take(DType::f32, {tokens, K() / elems}).ptr<float>();
  };
  Int8Rows rows{.run = run};
  rows.q = arena.take(DType::i8, {T(), K()}).ptr<int8_t>();
  rows.scales = floats(T(), elems_of(run));
  if (scaled_sums) rows.scaled_sums = floats(T(), 32);
  rows.sums = arena.take(DType::i32, {T(), K() / 32}).ptr<int32_t>();
  if (!packs_) return rows;
  const int64_t tokens = tiles_of(T()) * kTileTokens;
  rows.tiles = arena.take(DType::i8, {tokens, K()}).ptr<int8_t>();
  rows.tile_scales = floats(tokens, elems_of(run));
  if (scaled_sums) rows.tile_scaled_sums = floats(tokens, 32);
  rows.tile_sums = arena.take(DType::i32, {tokens, K() / 32}).ptr<int32_t>();
  rows.tile_centres = arena.take(DType::i32, {tokens, K() / (scaled_sums ? 32 : 16)}).ptr<int32_t>();
  if (scaled_sums) return rows;
  rows.tile_pair_sums = arena.take(DType::i32, {tokens, K() / 64}).ptr<int32_t>();
  rows.tile_reach = arena.take(DType::i32, {tiles_of(T()), K() / 256}).ptr<int32_t>();
  return rows;
}

void CpuProduct::prepare_token(int64_t t) const {
  const float* x = args_.x.ptr<float>() + t * args_.x.stride(0);
  if (needs_of32_) kernels_.int8_round_row(x, K(), t, of32_);
  if (needs_of256_) kernels_.int8_round_row(x, K(), t, of256_);
  if (bf16_.used) kernels_.bf16_round_row(x, K(), bf16_.x + t * padded(K()));
  if (tiles_plain_) tile_plain(x, t);
  if (pads_) {
    float* row = x_.ptr<float>() + t * x_.stride(0);
    std::memcpy(row, x, static_cast<size_t>(K()) * sizeof(float));
    std::fill(row + K(), row + padded(K()), 0.0f);
  }
}

// A token's row of x to its place in its tiles, and zeros to the places after the last token.
void CpuProduct::tile_plain(const float* x, int64_t t) const {
  const int64_t lanes = kernels_.plain_tile_lanes;
  for (int64_t chunk = 0; chunk < padded(K()); chunk += kPanelChunk) {
    float* to = x_tiles_ + panel_tile(K(), T(), t, chunk) + t % kPanelTokens * lanes;
    const int64_t end = std::min(chunk + kPanelChunk, padded(K()));
    const int64_t places = t == T() - 1 ? kPanelTokens - t % kPanelTokens : 1;
    for (int64_t k = chunk; k < end; k += lanes, to += kPanelTokens * lanes) {
      const int64_t count = std::clamp<int64_t>(K() - k, 0, lanes);
      std::copy_n(x + std::min(k, K()), count, to);
      std::fill(to + count, to + places * lanes, 0.0f);
    }
  }
}

void CpuProduct::prepare(int64_t begin, int64_t end) const {
  for (int64_t t = begin; t < end;) {
    const int64_t tile = t / kTileTokens, first = tile * kTileTokens;
    const int64_t from = t, to = std::min(first + kTileTokens, end);
    for (; t < to; ++t) prepare_token(t);
    if (!packs_) continue;
    // Whoever rounds the last token of a tile packs it.
    const auto count = static_cast<int32_t>(to - from);
    if (std::atomic_ref(left_[tile]).fetch_sub(count, std::memory_order_acq_rel) != count) continue;
    const int64_t tokens = std::min<int64_t>(kTileTokens, T() - first);
    if (needs_of32_) kernels_.int8_pack_tile(K(), first, tokens, of32_);
    if (needs_of256_) kernels_.int8_pack_tile(K(), first, tokens, of256_);
  }
}

LinearJob CpuProduct::job_of(const Rows& rows, float* out, int64_t out_stride) const {
  const quant::Part& part = parts()[rows.part];
  const int64_t stride = row_bytes(part.format, K());
  const bool residual = args_.residual.defined();
  return {.weight = static_cast<const uint8_t*>(part.storage.data()) + rows.begin * stride,
          .weight_stride = stride,
          .interleaved = is_interleaved(args_),
          .format = part.format,
          .K = K(),
          .x = x_.ptr<float>(),
          .x_stride = x_.stride(0),
          .x_tiles = x_tiles_,
          .T = T(),
          .bias = args_.bias.defined() ? args_.bias.ptr<float>() + rows.first : nullptr,
          .residual = residual ? args_.residual.ptr<float>() + rows.first : nullptr,
          .residual_stride = residual ? args_.residual.stride(0) : 0,
          .out = out,
          .out_stride = out_stride};
}

void CpuProduct::multiply(const Rows& rows, float* out, int64_t out_stride) const {
  const LinearJob job = job_of(rows, out, out_stride);
  const int64_t count = rows.end - rows.begin;
  if (bf16_.used) return kernels_.bf16_multiply({job, bf16_.x, padded(K())}, 0, count);
  const Int8Run run = kernels_.int8_multiply == nullptr ? Int8Run::none : int8_run(job.format);
  if (run == Int8Run::none) {
    const CpuKernels::Multiply kernel =
        T() <= kernels_.plain_few_tokens ? kernels_.plain_few : kernels_.plain_many;
    return multiply_rows(job, count, [&](const LinearJob& some, int64_t n) { kernel(some, 0, n); });
  }
  const Int8Rows& x = run == Int8Run::of32 ? of32_ : of256_;
  if (!kernels_.int8_reads_rows) return kernels_.int8_multiply({job, x}, 0, count);
  multiply_rows(job, count, [&](const LinearJob& some, int64_t n) {
    kernels_.int8_multiply({some, x}, 0, n);
  });
}

int64_t CpuProduct::token_grain(int64_t operations) const { return grain_for((1 + operations) * K()); }

int64_t CpuProduct::units() const {
  int64_t units = 0;
  for (const quant::Part& part : parts()) units += (part.rows + unit_ - 1) / unit_;
  return units;
}

// A multiplication costs an eighth of a scalar operation's share. Smaller chunks would divide small products
// more evenly, but every one of them starts its streams of memory anew: sixteen a product, where these are
// three to fourteen in SmolLM2-135M, took 8 % more processor time for a token's layer.
int64_t CpuProduct::row_grain(int64_t rows) const { return grain_for(rows * K() * T() / 8); }

void run_product(const LinearArgs& args, const CpuKernels& kernels, Context& context) {
  const Arena::Scope scope(context.arena());
  const CpuProduct product(args, kernels, context.arena());
  if (product.prepares()) {
    context.pool().parallel_for(product.T(), product.token_grain(),
                                [&](int64_t begin, int64_t end) { product.prepare(begin, end); });
  }
  const int64_t units = product.units();
  context.pool().parallel_for(units, product.row_grain(product.unit()), [&](int64_t begin, int64_t end) {
    product.for_rows(begin, end, [&](const CpuProduct::Rows& rows) { product.multiply(rows); });
  });
}

int64_t product_scratch_bytes(const LinearArgs& args, const CpuKernels& kernels) {
  Arena measuring;
  const CpuProduct product(args, kernels, measuring);
  return static_cast<int64_t>(measuring.peak());
}

}  // namespace llamita
