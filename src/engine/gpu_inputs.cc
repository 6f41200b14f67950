#include "engine/gpu_inputs.h"

#include <cstring>

#include "base/check.h"
#include "hw/cuda/memory.h"

namespace llamita {

namespace {

constexpr size_t kAlignment = 16;
constexpr size_t kEntriesPerRow = 64;  // biases and seen tokens that find room from the start

size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

size_t packed_bytes(size_t tokens, size_t sequences, size_t max_blocks, size_t rows) {
  size_t sum = aligned(tokens * sizeof(int64_t)) + aligned(rows * sizeof(DeviceSamplingRow));
  for (const size_t count : {tokens, tokens, tokens, sequences + 1, sequences, rows, sequences * max_blocks})
    sum += aligned(count * sizeof(int32_t));
  return sum;
}

}  // namespace

GpuInputs::GpuInputs(int device, int tokens, int sequences, int max_blocks, int rows)
    : device_(device),
      step_bytes_(packed_bytes(static_cast<size_t>(tokens), static_cast<size_t>(sequences),
                               static_cast<size_t>(max_blocks), static_cast<size_t>(rows))),
      most_entries_(kEntriesPerRow * static_cast<size_t>(rows)) {
  allocate();
}

void GpuInputs::grow(const DeviceSamplingRows& sampling) {
  most_entries_ = 2 * sampling.entries.size();
  allocate();
}

void GpuInputs::allocate() {
  const size_t bytes = step_bytes_ + most_entries_ * sizeof(DeviceTokenEntry);
  for (Storage& pinned : pinned_) pinned = cuda::allocate_pinned(bytes);
  memory_ = cuda::allocate_storage(bytes, device_);
}

GpuInputs::Uploaded GpuInputs::upload(const StepInputs& inputs, const DeviceSamplingRows& sampling, int slot,
                                      const cuda::Stream& stream) {
  const auto turn = static_cast<size_t>(slot);
  auto* host = static_cast<std::byte*>(pinned_[turn].data());
  auto* card = static_cast<std::byte*>(memory_.data());
  const Device device{DeviceKind::cuda, device_};
  copied_[turn].synchronize();
  size_t used = 0;
  const auto place = [&](const void* values, size_t bytes) {
    const size_t at = used;
    used += aligned(bytes);
    LLAMITA_CHECK(used <= pinned_[turn].bytes(), "a step of ", inputs.tokens(), " tokens in ",
                  inputs.sequences(), " sequences takes ", used, " bytes, ", pinned_[turn].bytes(),
                  " are there");
    if (bytes > 0) std::memcpy(host + at, values, bytes);
    return card + at;
  };
  const auto place_list = [&](const auto& list, std::initializer_list<int64_t> shape) {
    using Element = typename std::decay_t<decltype(list)>::value_type;
    return Tensor(place(list.data(), list.size() * sizeof(Element)), DTypeOf<Element>::value, shape, device);
  };
  const int64_t T = inputs.tokens(), B = inputs.sequences(), R = inputs.rows();
  Uploaded out;
  ForwardBatch& batch = out.batch;
  batch.kv_slot = place_list(inputs.kv_slot, {T});
  batch.token_ids = place_list(inputs.token_ids, {T});
  out.token_source = place_list(inputs.token_source, {T});
  batch.positions = place_list(inputs.positions, {1, T});
  batch.q_start = place_list(inputs.q_start, {B + 1});
  batch.kv_len = place_list(inputs.kv_len, {B});
  batch.logit_rows = place_list(inputs.logit_rows, {R});
  batch.block_table = place_list(inputs.block_table, {B, inputs.max_blocks()});
  batch.plan = &inputs.attention;
  if (!sampling.rows.empty()) {
    const size_t row_bytes = sizeof(DeviceSamplingRow), entry_bytes = sizeof(DeviceTokenEntry);
    out.sampling_rows = Tensor(place(sampling.rows.data(), sampling.rows.size() * row_bytes), DType::u8,
                               {R, static_cast<int64_t>(row_bytes)}, device);
    out.entries = Tensor(place(sampling.entries.data(), sampling.entries.size() * entry_bytes), DType::u8,
                         {static_cast<int64_t>(most_entries_), static_cast<int64_t>(entry_bytes)}, device);
  }
  cuda::copy_async(memory_.data(), host, used, stream);
  stream.record(copied_[turn]);
  return out;
}

}  // namespace llamita
