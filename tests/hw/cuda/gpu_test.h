// What GPU tests share: they skip aloud where their card is missing, and move small arrays to the card and
// back.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "hw/cuda/check.h"
#include "hw/cuda/device_properties.h"
#include "hw/cuda/launch.h"
#include "hw/cuda/memory.h"
#include "hw/cuda/stream.h"

namespace llamita::test {

class GpuTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (cuda::device_count() == 0) GTEST_SKIP() << "there is no NVIDIA GPU here";
  }
};

// Tests of sm_90a code.
class HopperTest : public GpuTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (!IsSkipped() && !cuda::device_properties(0).runs_sm90a())
      GTEST_SKIP() << "the card here is not of compute capability 9.0";
  }
};

// compute-sanitizer counts every failed CUDA call as a finding, those that a test provokes too. It is in the
// process as libsanitizer-collection.so.
inline bool under_compute_sanitizer() {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);)
    if (line.find("libsanitizer-collection") != std::string::npos ||
        line.find("compute-sanitizer") != std::string::npos)
      return true;
  return false;
}

template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t count, int poison = 0xFF)
      : storage_(cuda::allocate_storage(count * sizeof(T), 0)), count_(count) {
    LLAMITA_CUDA_CHECK(cudaMemset(storage_.data(), poison, count * sizeof(T)));
    LLAMITA_CUDA_CHECK(cudaDeviceSynchronize());  // before kernels of streams that do not wait for this one
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    LLAMITA_CUDA_CHECK(
        cudaMemcpy(storage_.data(), values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  T* data() const { return static_cast<T*>(storage_.data()); }
  std::vector<T> read() const {  // waits for the card and throws what kernels did wrong
    LLAMITA_CUDA_CHECK(cudaDeviceSynchronize());
    std::vector<T> values(count_);
    LLAMITA_CUDA_CHECK(
        cudaMemcpy(values.data(), storage_.data(), count_ * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  Storage storage_;
  size_t count_;
};

}  // namespace llamita::test
