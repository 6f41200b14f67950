#include "engine/gpu_inputs.h"

#include <cstring>

#include "base/check.h"
#include "hw/cuda/memory.h"

namespace llamita {

namespace {

constexpr size_t kAlignment = 16;

size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

size_t packed_bytes(size_t tokens, size_t sequences, size_t max_blocks, size_t rows) {
  size_t sum = aligned(tokens * sizeof(int64_t));
  for (const size_t count : {tokens, tokens, sequences + 1, sequences, rows, sequences * max_blocks})
    sum += aligned(count * sizeof(int32_t));
  return sum;
}

}  // namespace

GpuInputs::GpuInputs(int device, int tokens, int sequences, int max_blocks, int rows)
    : device_(device),
      pinned_(
          cuda::allocate_pinned(packed_bytes(static_cast<size_t>(tokens), static_cast<size_t>(sequences),
                                             static_cast<size_t>(max_blocks), static_cast<size_t>(rows)))),
      memory_(cuda::allocate_storage(pinned_.bytes(), device)) {}

ForwardBatch GpuInputs::upload(const StepInputs& inputs, const cuda::Stream& stream) {
  copied_.synchronize();
  size_t used = 0;
  const auto place = [&](const auto& list, std::initializer_list<int64_t> shape) {
    using Element = typename std::decay_t<decltype(list)>::value_type;
    const size_t bytes = list.size() * sizeof(Element), at = used;
    used += aligned(bytes);
    LLAMITA_CHECK(used <= pinned_.bytes(), "a step of ", inputs.tokens(), " tokens in ", inputs.sequences(),
                  " sequences takes ", used, " bytes, ", pinned_.bytes(), " are there");
    std::memcpy(static_cast<std::byte*>(pinned_.data()) + at, list.data(), bytes);
    return Tensor(static_cast<std::byte*>(memory_.data()) + at, DTypeOf<Element>::value, shape,
                  Device{DeviceKind::cuda, device_});
  };
  const int64_t T = inputs.tokens(), B = inputs.sequences();
  ForwardBatch batch;
  batch.kv_slot = place(inputs.kv_slot, {T});
  batch.token_ids = place(inputs.token_ids, {T});
  batch.positions = place(inputs.positions, {1, T});
  batch.q_start = place(inputs.q_start, {B + 1});
  batch.kv_len = place(inputs.kv_len, {B});
  batch.logit_rows = place(inputs.logit_rows, {inputs.rows()});
  batch.block_table = place(inputs.block_table, {B, inputs.max_blocks()});
  batch.plan = &inputs.attention;
  cuda::copy_async(memory_.data(), pinned_.data(), used, stream);
  stream.record(copied_);
  return batch;
}

}  // namespace llamita
