#include "nn/vision_batch.h"

namespace llamita {

VisionBatch::VisionBatch(const VisionConfig& vision, int images) {
  const auto pages = static_cast<int32_t>(pages_of_image(vision));
  q_start.push_back(0);
  for (int32_t image = 0; image < images; ++image) {
    for (int64_t token = 0; token < vision.tokens(); ++token)
      kv_slot.push_back(int64_t{image} * pages * kPageTokens + token);
    q_start.push_back((image + 1) * vision.tokens());
    kv_len.push_back(vision.tokens());
    for (int32_t page = 0; page < pages; ++page) block_table.push_back(image * pages + page);
  }
  plan = plan_attention(q_start, kv_len);
}

ForwardBatch VisionBatch::on_host() const {
  const int64_t n = images();
  ForwardBatch batch;
  batch.kv_slot = Tensor::of(kv_slot.data(), {static_cast<int64_t>(kv_slot.size())});
  batch.q_start = Tensor::of(q_start.data(), {n + 1});
  batch.kv_len = Tensor::of(kv_len.data(), {n});
  batch.block_table = Tensor::of(block_table.data(), {n, static_cast<int64_t>(block_table.size()) / n});
  batch.plan = &plan;
  return batch;
}

}  // namespace llamita
