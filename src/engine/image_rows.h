// ImageRows: the rows that images have in the place of tokens, on the device of the model. Images that a step
// needs are encoded, several in one pass, and lately used ones are kept, so that a prompt in chunks meets its
// images encoded. What was dropped is encoded again when it is needed.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "analysis/memory_plan.h"
#include "engine/prepared_image.h"
#include "models/model.h"
#include "nn/vision_batch.h"

namespace llamita {

// How a runner's device gives and fills memory. Copies are in the order of the context's work.
struct DeviceMemory {
  Device device;
  std::function<Storage(size_t bytes)> allocate;
  // From memory of the host, which may be changed as soon as it returns.
  std::function<void(void* to, const void* from, size_t bytes)> upload;
  std::function<void(void* to, const void* from, size_t bytes)> copy;  // inside the device
};

class ImageRows {
 public:
  // Borrows the model, which takes images. The memory of plan.image_bytes is taken with the first image.
  ImageRows(const Model& model, const MemoryPlan& plan, DeviceMemory memory);

  // (n, C) f32: the rows of a step's image tokens in order; they live until the next call.
  Tensor rows_of(const StepImages& images, Context& context);

 private:
  struct Slot {
    std::shared_ptr<const PreparedImage> image;
    int64_t used = 0;  // the use of any slot that was this one's last
  };
  // A VisionBatch of one size on the device; the batch points into it.
  struct Pass {
    VisionBatch host;
    Storage memory;
    ForwardBatch batch;
  };

  void provide();
  size_t find(const PreparedImage& image) const;
  void encode(const StepImages& images, size_t first, Context& context);
  const ForwardBatch& pass_of(int images);
  void to_device(Pass& pass) const;
  std::byte* slot_rows(size_t slot, int64_t row) const;

  const Model& model_;
  const VisionConfig& vision_;
  DeviceMemory memory_;
  int64_t step_tokens_;
  int per_pass_;
  size_t row_bytes_;
  std::vector<Slot> slots_;
  int64_t uses_ = 0;
  Storage slot_memory_, step_memory_, pixels_;
  std::map<int, std::unique_ptr<Pass>> passes_;  // by images
};

}  // namespace llamita
