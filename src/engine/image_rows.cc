#include "engine/image_rows.h"

#include <algorithm>

namespace llamita {

ImageRows::ImageRows(const Model& model, const MemoryPlan& plan, DeviceMemory memory)
    : model_(model),
      vision_(*model.config().vision),
      memory_(std::move(memory)),
      step_tokens_(plan.shape.batch_tokens),
      per_pass_(plan.shape.images_per_pass),
      row_bytes_(static_cast<size_t>(model.config().hidden) * sizeof(float)),
      slots_(static_cast<size_t>(plan.shape.image_slots)) {}

void ImageRows::provide() {
  if (slot_memory_.bytes() > 0) return;
  const auto rows = static_cast<size_t>(vision_.image_rows());
  const auto side = static_cast<size_t>(vision_.image_size);
  Storage slots = memory_.allocate(slots_.size() * rows * row_bytes_);
  Storage step = memory_.allocate(static_cast<size_t>(step_tokens_) * row_bytes_);
  pixels_ = memory_.allocate(static_cast<size_t>(per_pass_) * 3 * side * side * sizeof(float));
  step_memory_ = std::move(step);
  slot_memory_ = std::move(slots);  // last: with it all is there
}

std::byte* ImageRows::slot_rows(size_t slot, int64_t row) const {
  const size_t at = slot * static_cast<size_t>(vision_.image_rows()) + static_cast<size_t>(row);
  return static_cast<std::byte*>(slot_memory_.data()) + at * row_bytes_;
}

// The slot that has the image, or slots_.size().
size_t ImageRows::find(const PreparedImage& image) const {
  const auto has = [&](const Slot& slot) { return slot.image && slot.image->token == image.token; };
  return static_cast<size_t>(std::find_if(slots_.begin(), slots_.end(), has) - slots_.begin());
}

Tensor ImageRows::rows_of(const StepImages& images, Context& context) {
  provide();
  int64_t at = 0;
  for (size_t i = 0; i < images.rows.size(); ++i) {
    const StepImages::Part& part = images.rows[i];
    if (find(*part.image) == slots_.size()) encode(images, i, context);
    const size_t slot = find(*part.image);
    slots_[slot].used = ++uses_;
    const int64_t count = part.end - part.begin;
    LLAMITA_CHECK(at + count <= step_tokens_, "a step of ", at + count, " image tokens");
    memory_.copy(static_cast<std::byte*>(step_memory_.data()) + static_cast<size_t>(at) * row_bytes_,
                 slot_rows(slot, part.begin), static_cast<size_t>(count) * row_bytes_);
    at += count;
  }
  return Tensor(step_memory_.data(), DType::f32, {at, model_.config().hidden}, memory_.device);
}

// Part `first`'s image, and as many more that are not there yet as a pass takes: the step's first, then those
// ahead. They take the slots that were used longest ago; there are at least as many as a pass takes.
void ImageRows::encode(const StepImages& images, size_t first, Context& context) {
  std::vector<std::shared_ptr<const PreparedImage>> group;
  const auto want = [&](const std::shared_ptr<const PreparedImage>& image) {
    const auto same = [&](const auto& other) { return other->token == image->token; };
    if (group.size() < static_cast<size_t>(per_pass_) && find(*image) == slots_.size() &&
        std::none_of(group.begin(), group.end(), same))
      group.push_back(image);
  };
  for (size_t i = first; i < images.rows.size(); ++i) want(images.rows[i].image);
  for (const auto& image : images.ahead) want(image);

  const auto n = static_cast<int64_t>(group.size()), S = int64_t{vision_.image_size};
  const Tensor pixels(pixels_.data(), DType::f32, {n, 3, S, S}, memory_.device);
  const size_t image_bytes = static_cast<size_t>(pixels.bytes() / n);
  for (size_t i = 0; i < group.size(); ++i) {
    LLAMITA_CHECK(group[i]->pixels.size() * sizeof(float) == image_bytes, "an image of ",
                  group[i]->pixels.size(), " values");
    memory_.upload(static_cast<std::byte*>(pixels_.data()) + i * image_bytes, group[i]->pixels.data(),
                   image_bytes);
  }
  const Arena::Scope scope(context.arena());
  const Tensor rows = context.arena().take(DType::f32, {n, vision_.tokens(), model_.config().hidden});
  model_.encode_images(pixels, pass_of(static_cast<int>(n)), rows, context);

  const auto skipped = static_cast<size_t>(vision_.tokens() - vision_.image_rows());
  for (size_t i = 0; i < group.size(); ++i) {
    const auto oldest = std::min_element(slots_.begin(), slots_.end(),
                                         [](const Slot& a, const Slot& b) { return a.used < b.used; });
    *oldest = {group[i], ++uses_};
    const size_t begin = i * static_cast<size_t>(vision_.tokens()) + skipped;
    memory_.copy(slot_rows(static_cast<size_t>(oldest - slots_.begin()), 0),
                 static_cast<const std::byte*>(rows.data()) + begin * row_bytes_,
                 static_cast<size_t>(vision_.image_rows()) * row_bytes_);
  }
}

const ForwardBatch& ImageRows::pass_of(int images) {
  const auto found = passes_.find(images);
  if (found != passes_.end()) return found->second->batch;
  auto pass = std::make_unique<Pass>(Pass{VisionBatch(vision_, images), {}, {}});
  pass->batch = pass->host.on_host();
  if (memory_.device.kind != DeviceKind::cpu) to_device(*pass);
  return passes_.emplace(images, std::move(pass)).first->second->batch;
}

void ImageRows::to_device(Pass& pass) const {
  Tensor* const tensors[] = {&pass.batch.kv_slot, &pass.batch.q_start, &pass.batch.kv_len,
                             &pass.batch.block_table};
  constexpr size_t kAlignment = 16;
  size_t bytes = 0;
  for (const Tensor* tensor : tensors) bytes += static_cast<size_t>(tensor->bytes()) + kAlignment;
  pass.memory = memory_.allocate(bytes);
  size_t at = 0;
  for (Tensor* tensor : tensors) {
    auto* to = static_cast<std::byte*>(pass.memory.data()) + at;
    memory_.upload(to, tensor->data(), static_cast<size_t>(tensor->bytes()));
    *tensor = Tensor(to, tensor->dtype(), tensor->shape(), memory_.device);
    at += (static_cast<size_t>(tensor->bytes()) + kAlignment - 1) / kAlignment * kAlignment;
  }
}

}  // namespace llamita
