// VisionBatch: what a vision tower's attention is told about a pass over n images, on the host: every image
// is a sequence of its own whose tokens all see each other, in pages that lie in the arena during the pass.
#pragma once

#include <cstdint>
#include <vector>

#include "nn/forward_batch.h"
#include "weights/model_config.h"

namespace llamita {

struct VisionBatch {
  std::vector<int64_t> kv_slot;                       // (n tokens)
  std::vector<int32_t> q_start, kv_len, block_table;  // (n+1), (n), (n, pages of an image)
  AttentionPlan plan;

  VisionBatch(const VisionConfig& vision, int images);

  int images() const { return static_cast<int>(kv_len.size()); }
  // Over these arrays, which must stay as they are while it is used.
  ForwardBatch on_host() const;
};

// Pages that an image's tokens take.
inline int64_t pages_of_image(const VisionConfig& vision) {
  return (vision.tokens() + kPageTokens - 1) / kPageTokens;
}

}  // namespace llamita
