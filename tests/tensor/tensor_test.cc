#include "tensor/tensor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "tensor/arena.h"
#include "tensor/storage.h"

namespace llamita {
namespace {

TEST(Float16, EveryBitPatternSurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const f16 half{static_cast<uint16_t>(bits)};
    const bf16 brain{static_cast<uint16_t>(bits)};
    if (!std::isnan(to_float(half))) {
      ASSERT_EQ(to_f16(to_float(half)).bits, bits);
    }
    if (!std::isnan(to_float(brain))) {
      ASSERT_EQ(to_bf16(to_float(brain)).bits, bits);
    }
  }
}

TEST(Float16, RoundsToNearestEven) {
  EXPECT_EQ(to_f16(1.0f + 0x1p-11f).bits, 0x3c00);             // half way: to even
  EXPECT_EQ(to_f16(1.0f + 0x1p-11f + 0x1p-20f).bits, 0x3c01);  // above half way
  EXPECT_EQ(to_f16(1.0f + 3 * 0x1p-11f).bits, 0x3c02);         // half way: to even, upwards
  EXPECT_EQ(to_f16(65519.9f).bits, 0x7bff);
  EXPECT_EQ(to_f16(65520.0f).bits, 0x7c00);
  EXPECT_EQ(to_f16(0x1p-25f).bits, 0x0000);
  EXPECT_EQ(to_f16(-0x1.8p-25f).bits, 0x8001);
  EXPECT_EQ(to_bf16(1.0f + 0x1p-8f).bits, 0x3f80);
  EXPECT_TRUE(std::isnan(to_float(to_bf16(std::numeric_limits<float>::quiet_NaN()))));
  EXPECT_TRUE(std::isnan(to_float(to_f16(std::numeric_limits<float>::quiet_NaN()))));
}

TEST(Tensor, SlicesAndColumnsNameTheSameMemory) {
  std::vector<float> data(12);
  const Tensor t = Tensor::of(data.data(), {3, 4});
  EXPECT_EQ(t.slice(1, 3).ptr<float>(), data.data() + 4);
  const Tensor right = t.columns(2, 4);
  EXPECT_EQ(right.ptr<float>(), data.data() + 2);
  EXPECT_EQ(right.stride(0), 4);
  EXPECT_FALSE(right.dense());
  EXPECT_EQ(t.view({2, 6}).dim(1), 6);
  EXPECT_EQ(t.shape_text(), "F32 (3, 4)");
}

TEST(Tensor, BlockFormatsCountWholeBlocks) {
  std::vector<uint8_t> data(2 * 2 * 18);
  const Tensor t(data.data(), DType::q4_0, {2, 64});
  EXPECT_EQ(t.bytes(), 72);
  EXPECT_EQ(t.slice(1, 2).data(), data.data() + 36);
  EXPECT_EQ(dtype_of_ggml(12), DType::q4_k);
  EXPECT_EQ(dtype_of_ggml(31), std::nullopt);
  EXPECT_EQ(dtype_of_ggml(-1), std::nullopt);
}

TEST(Arena, TheMeasuredSizeIsExactlyWhatTheRealRunNeeds) {
  const auto step = [](Arena& arena) {
    const Arena::Scope scope(arena);
    arena.take(DType::f32, {3, 5});
    {
      const Arena::Scope inner(arena);
      arena.take(DType::bf16, {1000});
    }
    return arena.take(DType::i32, {7}).data();
  };
  Arena plan;
  EXPECT_EQ(step(plan), nullptr);
  Arena real(plan.peak());
  void* first = step(real);
  EXPECT_EQ(step(real), first);
  EXPECT_EQ(real.peak(), plan.peak());
  EXPECT_EQ(real.used(), 0u);

  Arena tight(plan.peak() - 1);  // what does not fit gets memory of its own
  EXPECT_NE(step(tight), nullptr);
  EXPECT_EQ(tight.peak(), plan.peak());
  EXPECT_GT(tight.peak(), tight.capacity());
  auto* beyond = static_cast<char*>(tight.take(DType::u8, {10'000}).data());
  std::fill_n(beyond, 10'000, 'x');
}

TEST(Storage, BorrowedMemoryKeepsItsOwnerAlive) {
  auto owner = std::make_shared<std::vector<int>>(4, 7);
  const std::weak_ptr<std::vector<int>> watch = owner;
  Storage storage = Storage::borrow(owner->data(), 16, owner);
  owner.reset();
  EXPECT_FALSE(watch.expired());
  storage = {};
  EXPECT_TRUE(watch.expired());
}

TEST(Storage, LargeMemoryStartsOnAHugePage) {
  const Storage storage = Storage::allocate(5 << 20);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(storage.data()) % (2 << 20), 0u);
  static_cast<char*>(storage.data())[(5 << 20) - 1] = 1;
}

}  // namespace
}  // namespace llamita
