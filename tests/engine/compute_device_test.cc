// The choice of a device, and what a step looks like to one, as far as that needs no GPU.
#include "engine/compute_device.h"

#include <gtest/gtest.h>

#include "engine/step_inputs.h"
#include "hw/cuda/device_properties.h"
#include "support/expect_error.h"
#include "support/forced_kernels.h"
#include "support/golden_model.h"

namespace llamita {
namespace {

EngineConfig on(const std::string& device) {
  EngineConfig config;
  config.device = device;
  return config;
}

TEST(ComputeDevice, NamesThatMeanNothingAreRefused) {
  for (const char* device : {"gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "", "cuda 0"})
    EXPECT_ERROR(choose_placement(on(device)), "device must be cpu, cuda, cuda:N or auto");
  EngineConfig config = on("cpu");
  config.gpu_dtype = "f32";
  EXPECT_ERROR(choose_placement(config), "gpu_dtype must be bf16 or f16");
}

// Before gigabytes of weights are read.
TEST(ComputeDevice, AForcedOpThatDoesNotExistIsRefused) {
  const test::ForcedKernels forced("linaer=reference");
  EXPECT_ERROR(choose_placement(on("cpu")), "there is no op \"linaer\"");
}

TEST(ComputeDevice, AutoTakesAGpuWhereThereIsOne) {
  EXPECT_FALSE(choose_placement(on("cpu")).on_gpu());
  EXPECT_EQ(choose_placement(on("auto")).on_gpu(), cuda::device_count() > 0);
}

TEST(ComputeDevice, AGpuThatIsNotThereIsNamed) {
  const std::string beyond = "cuda:" + std::to_string(cuda::device_count());
  if (!cuda::built_in()) {
    EXPECT_ERROR(choose_placement(on("cuda")), "this build has no GPU part");
  } else if (cuda::device_count() == 0) {
    EXPECT_ERROR(choose_placement(on("cuda")), "no NVIDIA GPU can be used here");
  } else {
    EXPECT_ERROR(choose_placement(on(beyond)), "the last is cuda:");
  }
}

sched::Batch decode_batch() {
  sched::Batch batch;
  batch.chunks = {{1, 70, 71, true, {4, 9}}, {2, 3, 4, true, {6}}, {3, 130, 131, true, {1, 2, 3}}};
  batch.tokens = {11, 12, 13};
  return batch;
}

TEST(StepInputs, ADecodeStepIsPaddedWithSequencesInTheScratchPage) {
  StepInputs inputs;
  inputs.read(decode_batch(), StepInputs::LogitsOf::sampled_chunks);
  ASSERT_TRUE(inputs.is_decode());
  EXPECT_EQ(inputs.kv_slot, (std::vector<int64_t>{9 * 64 + 6, 6 * 64 + 3, 3 * 64 + 2}));
  inputs.pad_decode(4, 5, 77);
  EXPECT_EQ(inputs.token_ids, (std::vector<int32_t>{11, 12, 13, 0}));
  EXPECT_EQ(inputs.positions, (std::vector<int32_t>{70, 3, 130, 0}));
  EXPECT_EQ(inputs.kv_slot.back(), 77 * 64);
  EXPECT_EQ(inputs.q_start, (std::vector<int32_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(inputs.kv_len, (std::vector<int32_t>{71, 4, 131, 1}));
  EXPECT_EQ(inputs.logit_rows, (std::vector<int32_t>{0, 1, 2, 3}));
  EXPECT_EQ(inputs.block_table,
            (std::vector<int32_t>{4, 9, 0, 77, 77, 6, 0, 0, 77, 77, 1, 2, 3, 77, 77, 77, 77, 77, 77, 77}));
  EXPECT_EQ(inputs.attention.max_kv_len, 5 * kPageTokens) << "the bound, not what this step has";
}

TEST(StepInputs, PromptsAndStepsThatSampleNothingAreNoDecodeSteps) {
  StepInputs inputs;
  sched::Batch batch = decode_batch();
  batch.chunks[1].sample = false;
  inputs.read(batch, StepInputs::LogitsOf::sampled_chunks);
  EXPECT_FALSE(inputs.is_decode());
  EXPECT_EQ(inputs.logit_rows, (std::vector<int32_t>{0, 2}));
  batch = decode_batch();
  batch.chunks[0].begin = 69;
  batch.tokens = {10, 11, 12, 13};
  inputs.read(batch, StepInputs::LogitsOf::sampled_chunks);
  EXPECT_FALSE(inputs.is_decode());
}

// Counting needs no GPU.
TEST(Placement, AGpuKeepsSixteenBitsOfEachWeightOfAFloatCheckpoint) {
  const Placement gpu{Device{DeviceKind::cuda, 0}, DType::bf16};
  const TensorFiles files = TensorFiles::open(test::golden_model("llama"));
  const ModelSize cpu = measure_model(files), size = measure_model(files, gpu);
  const ModelConfig& model = size.config;
  const int64_t norms = (2 * model.layers + 1) * int64_t{model.hidden} * 4;
  // The checkpoint is F32: matrices halve, vectors stay, and the frequencies of the positions come on top.
  EXPECT_EQ(size.weight_bytes, (cpu.weight_bytes - norms) / 2 + norms + model.head_dim / 2 * 4);
  EXPECT_GE(size.copied_bytes, size.weight_bytes);
  EXPECT_EQ(gpu.format_of(DType::f16), DType::f16);
  EXPECT_EQ(gpu.format_of(DType::q4_k), DType::q4_k);
  EXPECT_EQ(gpu.format_of(DType::q5_k), DType::bf16);
  EXPECT_EQ(Placement{}.format_of(DType::q5_k), DType::q5_k);
}

}  // namespace
}  // namespace llamita
