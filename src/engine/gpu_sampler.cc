#include "engine/gpu_sampler.h"

#include <cstring>

#include "hw/cuda/memory.h"

namespace llamita {

namespace {

constexpr size_t kAlignment = 16;
// Of the parameters of one row and some biases and seen tokens.
constexpr size_t kBytesPerRow = sizeof(DeviceSamplingRow) + 64 * sizeof(DeviceSeen);

size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

GpuSampler::GpuSampler(int device, int rows)
    : device_{DeviceKind::cuda, device},
      pinned_(cuda::allocate_pinned(kBytesPerRow * static_cast<size_t>(rows))),
      memory_(cuda::allocate_storage(pinned_.bytes(), device)),
      pinned_tokens_(cuda::allocate_pinned(sizeof(int32_t) * static_cast<size_t>(rows))),
      tokens_(cuda::allocate_storage(pinned_tokens_.bytes(), device)) {}

bool GpuSampler::can_do(std::span<const SamplingRow> rows) {
  for (const SamplingRow& row : rows) {
    if (row.logprobs >= 0 || !row.allowed.empty()) return false;
  }
  return true;
}

Tensor GpuSampler::upload(const void* values, int64_t count, int64_t bytes_each, const cuda::Stream& stream) {
  if (count == 0) return {};
  const auto bytes = static_cast<size_t>(count * bytes_each);
  auto* host = static_cast<std::byte*>(pinned_.data()) + used_;
  auto* card = static_cast<std::byte*>(memory_.data()) + used_;
  std::memcpy(host, values, bytes);
  cuda::copy_async(card, host, bytes, stream);
  used_ += aligned(bytes);
  return Tensor(card, DType::u8, {count, bytes_each}, device_);
}

void GpuSampler::choose(const Tensor& logits, int32_t vocab_limit, std::span<const SamplingRow> rows,
                        std::span<SampledToken> out, Context& context) {
  rows_.clear();
  bias_.clear();
  seen_.clear();
  for (const SamplingRow& row : rows) {
    rows_.push_back({.temperature = row.temperature,
                     .top_p = row.top_p,
                     .min_p = row.min_p,
                     .repetition_penalty = row.repetition_penalty,
                     .frequency_penalty = row.frequency_penalty,
                     .presence_penalty = row.presence_penalty,
                     .top_k = row.top_k,
                     .choice = row.choice,
                     .seed = row.seed,
                     .position = row.position,
                     .bias_begin = static_cast<int32_t>(bias_.size()),
                     .seen_begin = static_cast<int32_t>(seen_.size())});
    for (const auto& [token, value] : row.logit_bias) bias_.push_back({token, value});
    for (const SeenToken& seen : row.seen) seen_.push_back({seen.token, seen.in_reply});
    rows_.back().bias_end = static_cast<int32_t>(bias_.size());
    rows_.back().seen_end = static_cast<int32_t>(seen_.size());
  }
  // The last choice was waited for, so nothing reads these any more.
  used_ = 0;
  const size_t wanted = aligned(rows_.size() * sizeof(DeviceSamplingRow)) +
                        aligned(bias_.size() * sizeof(DeviceBias)) +
                        aligned(seen_.size() * sizeof(DeviceSeen));
  if (wanted > pinned_.bytes()) {
    pinned_ = cuda::allocate_pinned(2 * wanted);
    memory_ = cuda::allocate_storage(2 * wanted, device_.index);
  }
  const auto count = static_cast<int64_t>(rows.size());
  const cuda::Stream& stream = context.stream();
  const Tensor parameters = upload(rows_.data(), count, sizeof(DeviceSamplingRow), stream);
  const Tensor bias = upload(bias_.data(), static_cast<int64_t>(bias_.size()), sizeof(DeviceBias), stream);
  const Tensor seen = upload(seen_.data(), static_cast<int64_t>(seen_.size()), sizeof(DeviceSeen), stream);
  const Tensor tokens(tokens_.data(), DType::i32, {count}, device_);
  device_sampling({.logits = logits.slice(0, count),
                   .vocab_limit = vocab_limit,
                   .rows = parameters,
                   .bias = bias,
                   .seen = seen,
                   .tokens = tokens},
                  context);
  cuda::copy_async(pinned_tokens_.data(), tokens.data(), rows.size() * sizeof(int32_t), stream);
  stream.synchronize();
  const auto* chosen = static_cast<const int32_t*>(pinned_tokens_.data());
  for (size_t r = 0; r < rows.size(); ++r) out[r] = {.token = chosen[r]};
}

}  // namespace llamita
