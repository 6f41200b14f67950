// ImageRows: rows of images in steps that need more images than are kept, with passes of several images, and
// after memory was refused; always those of each image encoded alone.
#include "engine/image_rows.h"

#include <gtest/gtest.h>

#include <cstring>
#include <new>
#include <numeric>

#include "engine/compute_device.h"
#include "engine/served_model.h"
#include "ops/op_test_support.h"

namespace llamita {
namespace {

const std::string kFolder = std::string(LLAMITA_SOURCE_DIR) + "/tests/golden/tiny-llava";

class ImageRowsTest : public testing::Test {
 protected:
  ImageRowsTest() : model_(load_model(kFolder, {}, Placement{})), vision_(*model_->config().vision) {
    const size_t values = size_t{3} * static_cast<size_t>(vision_.image_size * vision_.image_size);
    for (int32_t i = 0; i < 30; ++i) {
      auto image = std::make_shared<PreparedImage>();
      image->token = 1000000 + i;
      image->pixels.resize(values);
      for (size_t j = 0; j < values; ++j)
        image->pixels[j] = static_cast<float>((j * 7 + static_cast<size_t>(i) * 131) % 97) / 48.0f - 1.0f;
      images_.push_back(image);
    }
  }

  // Memory of the host; allocation number `refused` (from 0) throws.
  DeviceMemory memory(int refused = -1) {
    const auto copy = [](void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); };
    return {Device{},
            [count = 0, refused](size_t bytes) mutable {
              if (count++ == refused) throw std::bad_alloc();
              Storage storage = Storage::allocate(bytes);
              std::memset(storage.data(), 0xff, bytes);
              return storage;
            },
            copy, copy};
  }
  MemoryPlan plan(int per_pass, int slots, int step_images) const {
    MemoryPlan plan;
    plan.shape.images_per_pass = per_pass;
    plan.shape.image_slots = slots;
    plan.shape.batch_tokens = step_images * static_cast<int>(vision_.image_rows());
    return plan;
  }
  StepImages whole(const std::vector<int>& which, const std::vector<int>& ahead = {}) const {
    StepImages step;
    for (const int i : which)
      step.rows.push_back({images_[static_cast<size_t>(i)], 0, static_cast<int>(vision_.image_rows())});
    for (const int i : ahead) step.ahead.push_back(images_[static_cast<size_t>(i)]);
    return step;
  }
  std::vector<float> rows(ImageRows& from, const StepImages& step) {
    const Tensor got = from.rows_of(step, machine_.context());
    return {got.ptr<float>(), got.ptr<float>() + got.elems()};
  }
  std::vector<float> alone(const std::vector<int>& which) {
    ImageRows one(*model_, plan(1, 1, 1), memory());
    std::vector<float> all;
    for (const int i : which) {
      const std::vector<float> some = rows(one, whole({i}));
      all.insert(all.end(), some.begin(), some.end());
    }
    return all;
  }

  std::unique_ptr<Model> model_;
  const VisionConfig& vision_;
  std::vector<std::shared_ptr<const PreparedImage>> images_;
  test::Machine machine_{1, cpu::best_isa(), size_t{1} << 26};
};

TEST_F(ImageRowsTest, MoreImagesInAStepThanAreKept) {
  std::vector<int> which(24);
  std::iota(which.begin(), which.end(), 0);
  which.insert(which.end(), {0, 23, 7, 7});  // again, some of them long dropped
  const std::vector<float> expected = alone(which);
  for (const auto& [per_pass, slots] : {std::pair{8, 16}, {8, 8}, {3, 5}, {1, 1}}) {
    ImageRows many(*model_, plan(per_pass, slots, 28), memory());
    for (int step = 0; step < 3; ++step)
      EXPECT_EQ(rows(many, whole(which, {25, 26, 27, 28, 29})), expected) << per_pass << " of " << slots;
  }
}

TEST_F(ImageRowsTest, ComesBackAfterMemoryWasRefused) {
  const std::vector<float> expected = alone({3, 4});
  for (int refused = 0; refused < 3; ++refused) {
    ImageRows some(*model_, plan(2, 4, 2), memory(refused));
    EXPECT_THROW(rows(some, whole({3, 4})), std::bad_alloc);
    EXPECT_EQ(rows(some, whole({3, 4})), expected) << refused;
  }
}

}  // namespace
}  // namespace llamita
