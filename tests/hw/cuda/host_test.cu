// The handles of hw/cuda: errors with names, memory, graphs, launches and their order.
#include "hw/cuda/device/ptx/sync.cuh"
#include "hw/cuda/graph.h"
#include "llamita/error.h"
#include "support/expect_error.h"
#include "tests/hw/cuda/gpu_test.h"

namespace llamita {
namespace {

using test::DeviceArray;

TEST(CudaDevices, CountingThemNeedsNoDriver) { EXPECT_GE(cuda::device_count(), 0); }

TEST(CudaDevices, OneThatIsNotThereIsAnErrorThatSaysSo) {
  EXPECT_ERROR(cuda::device_properties(cuda::device_count()), "expected a CUDA device below");
}

using Cuda = test::GpuTest;

__global__ void add_one(int* values, int count) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) values[i] += 1;
}

TEST_F(Cuda, PropertiesAreThoseOfACard) {
  const cuda::DeviceProperties card = cuda::device_properties(0);
  EXPECT_GE(card.arch(), 80);
  EXPECT_GT(card.sm_count, 0);
  EXPECT_GE(card.smem_per_block, size_t{48} << 10);
  EXPECT_GT(card.l2_bytes, size_t{1} << 20);
}

TEST_F(Cuda, FailedCallsNameTheCallAndTheCause) {
  if (test::under_compute_sanitizer()) GTEST_SKIP() << "compute-sanitizer would report the failed calls";
  EXPECT_ERROR(cuda::allocate_storage(size_t{1} << 50, 0), "cudaMalloc(&data, bytes)");
  EXPECT_ERROR(cuda::launch(add_one, {.grid = dim3(1), .block = dim3(4096)}, nullptr, 0), "cudaErrorInvalid");
  const Storage after = cuda::allocate_storage(16, 0);  // neither error may stick
  EXPECT_NE(after.data(), nullptr);
}

TEST_F(Cuda, CopiesGoThereAndBack) {
  const cuda::Stream stream;
  const Storage pinned = cuda::allocate_pinned(4096), device = cuda::allocate_storage(4096, 0);
  auto* host = static_cast<uint8_t*>(pinned.data());
  for (int i = 0; i < 4096; ++i) host[i] = static_cast<uint8_t>(i * 7);
  cuda::copy_async(device.data(), host, 4096, stream);
  cuda::fill_async(static_cast<uint8_t*>(device.data()) + 100, 9, 3, stream);
  std::vector<uint8_t> back(4096);
  cuda::copy_async(back.data(), device.data(), 4096, stream);
  stream.synchronize();
  for (int i = 0; i < 4096; ++i)
    ASSERT_EQ(back[i], i >= 100 && i < 103 ? 9 : static_cast<uint8_t>(i * 7)) << i;
}

TEST_F(Cuda, AGraphReplaysWhatWasQueuedAndRunsNothingAtCapture) {
  const cuda::Stream stream;
  const DeviceArray<int> values(std::vector<int>(1000, 5));
  const cuda::Graph graph = cuda::Graph::capture(stream, [&] {
    for (int i = 0; i < 3; ++i)
      cuda::launch(add_one, {.grid = dim3(8), .block = dim3(128), .stream = stream.get()}, values.data(),
                   1000);
  });
  EXPECT_EQ(values.read(), std::vector<int>(1000, 5));
  graph.launch(stream);
  graph.launch(stream);
  EXPECT_EQ(values.read(), std::vector<int>(1000, 11));
}

TEST_F(Cuda, AThrowDuringCaptureLeavesTheStreamUsable) {
  const cuda::Stream stream;
  EXPECT_ERROR(cuda::Graph::capture(stream, [] { throw Error("stop here"); }), "stop here");
  const DeviceArray<int> values(std::vector<int>(10, 1));
  cuda::launch(add_one, {.grid = dim3(1), .block = dim3(32), .stream = stream.get()}, values.data(), 10);
  EXPECT_EQ(values.read(), std::vector<int>(10, 2));
}

// Lets its successor start at once and writes much later.
__global__ void slow_writer(int* values, int count) {
#if __CUDA_ARCH__ >= 900
  ptx::grid_launch_dependents();
#endif
  const long long begin = clock64();
  while (clock64() - begin < 2'000'000) {
  }
  for (int i = threadIdx.x; i < count; i += blockDim.x) values[i] = i;
}

__global__ void early_reader(const int* values, int* out, int count) {
#if __CUDA_ARCH__ >= 900
  ptx::grid_dependency_wait();
#endif
  for (int i = threadIdx.x; i < count; i += blockDim.x) out[i] = values[i] * 2;
}

TEST_F(Cuda, ADependentLaunchSeesAllThatItsPredecessorWrote) {
  if (cuda::device_properties(0).arch() < 90) GTEST_SKIP() << "programmatic dependent launch needs sm_90";
  const cuda::Stream stream;
  const DeviceArray<int> values(1000), out(1000);
  const cuda::Graph graph = cuda::Graph::capture(stream, [&] {
    cuda::launch(slow_writer, {.grid = dim3(1), .block = dim3(128), .stream = stream.get(), .pdl = true},
                 values.data(), 1000);
    cuda::launch(early_reader, {.grid = dim3(1), .block = dim3(128), .stream = stream.get(), .pdl = true},
                 static_cast<const int*>(values.data()), out.data(), 1000);
  });
  graph.launch(stream);
  const std::vector<int> seen = out.read();
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(seen[i], 2 * i);
}

}  // namespace
}  // namespace llamita
