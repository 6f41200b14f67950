#include "analysis/memory_plan.h"

#include <gtest/gtest.h>

#include "analysis/available_memory.h"
#include "quant/kv_side.h"
#include "support/expect_error.h"
#include "support/fake_model.h"

namespace llamita {
namespace {

// Llama 2 7B's attention.
ModelConfig seven_b() {
  ModelConfig config;
  config.layers = 32;
  config.kv_heads = 32;
  config.head_dim = 128;
  config.max_positions = 4096;
  return config;
}

TEST(MemoryPlan, KeysAndValuesOfLlama7b) {
  const MemoryPlan plan = plan_memory(seven_b(), {}, 123);
  EXPECT_EQ(plan.kv_bytes_per_token, 524288) << "half a megabyte in f16, as the literature has it";
  EXPECT_EQ(plan.kv_bytes, int64_t{524288} * 4096);
  EXPECT_EQ(plan.shape.context, 4096);
  EXPECT_EQ(plan.shape.kv_pages, 64);
  EXPECT_EQ(plan.weight_bytes, 123);
}

TEST(MemoryPlan, AnInt8CacheHoldsTwiceTheTokens) {
  EngineConfig config;
  config.kv_bytes = int64_t{524288} * kPageTokens * 32;
  EXPECT_EQ(plan_memory(seven_b(), config, 0).shape.kv_pages, 32);
  config.kv_dtype = "int8";
  const MemoryPlan plan = plan_memory(seven_b(), config, 0);
  EXPECT_EQ(plan.kv_bytes_per_token, 524288 / 2 * 130 / 128) << "of 128 values a scale of two bytes";
  EXPECT_EQ(plan.shape.kv_pages, 63);
  EXPECT_LE(plan.kv_bytes, config.kv_bytes);

  const KvCache cache = shape_only_cache(seven_b(), plan.shape);
  int64_t bytes = 0;
  for (const KvCache::Layer& layer : cache.layers) bytes += kv_side_bytes(layer.k) + kv_side_bytes(layer.v);
  EXPECT_EQ(bytes, plan.kv_bytes) << "what the tensors take is what was planned";
}

TEST(MemoryPlan, AnInt8CacheIsForTheCpu) {
  EngineConfig config;
  config.kv_dtype = "int8";
  Caps card;
  card.device = DeviceKind::cuda;
  EXPECT_ERROR(plan_memory(seven_b(), config, 0, card), "f16 and bf16. Take one of them, or device cpu");
}

TEST(MemoryPlan, TheCacheGrowsForManyWhereNobodyGaveItASize) {
  ModelConfig model = seven_b();
  EngineConfig config;
  config.context = 4096;
  config.batch_sequences = 3;
  const MemoryPlan one = plan_memory(model, config, 0);
  const int64_t of_one = one.kv_bytes;
  MemoryPlan plan = one;
  grow_to_fit(plan, config, 100 * of_one);
  EXPECT_EQ(plan.kv_bytes, 3 * of_one) << "no more than a step has sequences";
  EXPECT_EQ(plan.shape.kv_pages, 3 * one.shape.kv_pages);
  EXPECT_EQ(plan.shape.context, 4096);
  plan = one;
  grow_to_fit(plan, config, 8 * of_one);
  EXPECT_LE(plan.kv_bytes, 2 * of_one) << "a quarter of what is free";
  EXPECT_GT(plan.kv_bytes, of_one);
  plan = one;
  grow_to_fit(plan, config, 2 * of_one);
  EXPECT_EQ(plan.kv_bytes, of_one) << "never less than one conversation";
  plan = one;
  grow_to_fit(plan, config, std::nullopt);
  EXPECT_EQ(plan.kv_bytes, of_one);
  config.kv_bytes = of_one;
  grow_to_fit(plan, config, 100 * of_one);
  EXPECT_EQ(plan.kv_bytes, of_one) << "as it was asked for";
}

TEST(MemoryPlan, ContextAndCacheFollowTheOptions) {
  ModelConfig model = seven_b();
  model.max_positions = 131072;
  EXPECT_EQ(plan_memory(model, {}, 0).shape.context, 32768);
  EngineConfig config;
  config.context = 100000;
  config.kv_dtype = "f32";
  EXPECT_EQ(plan_memory(model, config, 0).shape.kv_pages, 1563);
  config.context = 65;
  EXPECT_EQ(plan_memory(model, config, 0).shape.kv_pages, 2) << "whole pages";
  EXPECT_EQ(plan_memory(model, config, 0).shape.context, 65);

  config = {};
  config.kv_bytes = int64_t{524288} * 64 * 3 + 1;
  EXPECT_EQ(plan_memory(model, config, 0).shape.kv_pages, 3);
  EXPECT_EQ(plan_memory(model, config, 0).shape.context, 192) << "no longer than the cache";
  config.context = 193;
  EXPECT_ERROR(
      plan_memory(model, config, 0),
      "101 MB, holds 192 tokens, but 193 need 135 MB: raise --kv-memory (kv_bytes) or lower --context");
  config = {};
  config.kv_bytes = 1'000'000;
  EXPECT_ERROR(plan_memory(model, config, 0), "1 MB, holds 0 tokens, but 64 need 34 MB: raise --kv-memory");

  config = {};
  config.batch_tokens = 5;
  EXPECT_EQ(plan_memory(model, config, 0).shape.batch_sequences, 5);
}

TEST(MemoryPlan, RopeScalingReachesBeyondTheNamedPositions) {
  ModelConfig model = seven_b();
  const auto longest = [&](RopeScaling scaling, double factor, int original) {
    model.rope.scaling = scaling;
    model.rope.factor = factor;
    model.rope.original_positions = original;
    return longest_context(model);
  };
  EXPECT_EQ(longest(RopeScaling::none, 4, 4096), 4096);
  EXPECT_EQ(longest(RopeScaling::llama3, 8, 1024), 4096);
  EXPECT_EQ(longest(RopeScaling::linear, 4, 4096), 16384);
  EXPECT_EQ(longest(RopeScaling::dynamic, 2.5, 4096), 10240);
  EXPECT_EQ(longest(RopeScaling::yarn, 4, 4096), 16384) << "the files name the trained length";
  EXPECT_EQ(longest(RopeScaling::yarn, 4, 1024), 4096) << "the files name the extended length";
  EXPECT_EQ(longest(RopeScaling::yarn, 2, 1024), 4096);
  EXPECT_EQ(longest(RopeScaling::linear, 1e6, 0), INT32_MAX / 2);

  longest(RopeScaling::dynamic, 4, 4096);
  EXPECT_EQ(plan_memory(model, {}, 0).shape.context, 4096) << "only on request";
  EngineConfig config;
  config.context = 16384;
  EXPECT_EQ(plan_memory(model, config, 0).shape.context, 16384);
  config.context = 16385;
  EXPECT_ERROR(plan_memory(model, config, 0), "more than the 16384 positions");
}

TEST(MemoryPlan, ArenaIsWhatTheRealStepTakes) {
  const test::FakeModel model(64, 1024);
  EngineConfig config;
  config.kv_dtype = "f32";
  const EngineShape shape = plan_memory(model.config(), config, 0).shape;
  // Logits (R, 64) f32 and states (T) i64; sampling's scratch comes after the states are gone: 20 bytes a
  // token.
  const auto measure = [&](int tokens, int rows) {
    return measure_arena(model, shape, tokens, rows, rows, 64, {});
  };
  EXPECT_EQ(measure(512, 1), 64 * 4 + 512 * 8);
  EXPECT_EQ(measure(1, 1), 64 * 4 + 64 * 20);
}

TEST(MemoryPlan, RefusalsCarryTheNumbers) {
  MemoryPlan plan = plan_memory(seven_b(), {}, 0);
  plan.arena_bytes = int64_t{1} << 30;
  EXPECT_NO_THROW(require_memory(plan, std::nullopt));
  EXPECT_NO_THROW(require_memory(plan, int64_t{3} << 30));
  EXPECT_ERROR(require_memory(plan, (int64_t{3} << 30) - 1), "at most 4032 tokens");
  EXPECT_ERROR(require_memory(plan, int64_t{2} << 30), "keys and values of 4096 tokens take 2.00 GiB");
  EXPECT_ERROR(require_memory(plan, 1), "smaller model");
}

TEST(MemoryPlan, AContextNobodyAskedForIsCutToWhatFits) {
  const test::FakeModel model(64, 4096);
  EngineConfig config;
  config.kv_dtype = "f32";
  const auto plan_with = [&](std::optional<int64_t> available) {
    return plan_memory(model, config, 64, {}, available);
  };
  const MemoryPlan whole = plan_with(std::nullopt);
  ASSERT_EQ(whole.shape.context, 4096);
  const int64_t page = whole.kv_bytes_per_token * kPageTokens, arena = whole.arena_bytes;

  EXPECT_EQ(plan_with(whole.kv_bytes + arena).shape.context, 4096);
  testing::internal::CaptureStderr();
  const MemoryPlan cut = plan_with(arena + 11 * page - 1);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("context is cut from 4096 to 640 tokens"),
            std::string::npos);
  EXPECT_EQ(cut.shape.context, 640);
  EXPECT_EQ(cut.shape.kv_pages, 10);
  EXPECT_EQ(cut.kv_bytes, 10 * page);
  testing::internal::CaptureStderr();
  EXPECT_EQ(plan_with(arena + 8 * page).shape.context, 512);
  EXPECT_NE(testing::internal::GetCapturedStderr(), "");
  EXPECT_ERROR(plan_with(arena + 8 * page - 1), "at most 448 tokens");

  MemoryPlan unloaded = whole;
  unloaded.copied_bytes = 3 * page;
  ASSERT_TRUE(shrink_to_fit(unloaded, config, arena + 13 * page));
  EXPECT_EQ(unloaded.shape.context, 640) << "beside the weights that will be copied";

  config.context = 4096;
  EXPECT_ERROR(plan_with(arena + 11 * page), "at most 704 tokens");
  config.context = 0;
  config.kv_bytes = whole.kv_bytes;
  EXPECT_ERROR(plan_with(arena + 11 * page), "at most 704 tokens");
}

TEST(AvailableMemory, ThisMachineHasSome) {
  const std::optional<int64_t> bytes = available_memory();
  ASSERT_TRUE(bytes.has_value());
  EXPECT_GT(*bytes, int64_t{1} << 20);
  EXPECT_LT(*bytes, int64_t{1} << 50);
}

}  // namespace
}  // namespace llamita
