#include "lessons/gemm_check.h"

#include <cmath>
#include <vector>

#include "base/cat.h"
#include "hw/cuda/launch.h"
#include "hw/cuda/memory.h"

namespace llamita::lessons {

namespace {

// A counter-based generator: mixes (seed, index) so that any element can be made alone.
__device__ __forceinline__ uint64_t mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

__global__ void random_bf16(__nv_bfloat16* data, size_t count, uint64_t seed) {
  for (size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += size_t(gridDim.x) * blockDim.x)
    data[i] = __float2bfloat16(static_cast<float>(mix(seed ^ mix(i)) >> 40) * 0x1p-23f - 1.0f);
}

__global__ void reference_fp64(Gemm p, double* sums) {
  const int column = blockIdx.x * blockDim.x + threadIdx.x;
  const int row = blockIdx.y * blockDim.y + threadIdx.y;
  if (row >= p.m || column >= p.n) return;
  const auto* a = reinterpret_cast<const __nv_bfloat162*>(p.a + size_t(row) * p.k);
  const auto* b = reinterpret_cast<const __nv_bfloat162*>(p.b + size_t(column) * p.k);
  double sum = 0;
  for (int k = 0; k < p.k / 2; ++k) {
    const float2 x = __bfloat1622float2(a[k]), y = __bfloat1622float2(b[k]);
    sum = fma(double(x.x), double(y.x), sum);
    sum = fma(double(x.y), double(y.y), sum);
  }
  sums[size_t(row) * p.n + column] = sum;
}

float from_bits(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  memcpy(&value, &wide, sizeof value);
  return value;
}

}  // namespace

void fill_random(__nv_bfloat16* data, size_t count, uint64_t seed, const cuda::Stream& stream) {
  cuda::launch(random_bf16, {.grid = dim3(1024), .block = dim3(256), .stream = stream.get()}, data, count,
               seed);
}

GemmError compare_with_fp64(const Gemm& p, const cuda::Stream& stream) {
  const size_t count = size_t(p.m) * p.n;
  const Storage sums = cuda::allocate_storage(count * sizeof(double), 0);
  const dim3 grid((p.n + 31) / 32, (p.m + 7) / 8);
  cuda::launch(reference_fp64, {.grid = grid, .block = dim3(32, 8), .stream = stream.get()}, p,
               static_cast<double*>(sums.data()));
  std::vector<double> expected(count);
  std::vector<uint16_t> got(count);
  cuda::copy_async(expected.data(), sums.data(), count * sizeof(double), stream);
  cuda::copy_async(got.data(), p.c, count * sizeof(uint16_t), stream);
  stream.synchronize();

  GemmError error;
  double difference = 0, norm = 0, worst_excess = -1e300;
  size_t worst = 0;
  for (size_t i = 0; i < count; ++i) {
    const double off = std::abs(double(from_bits(got[i])) - expected[i]);
    difference += off * off;
    norm += expected[i] * expected[i];
    // Half a unit of bf16's 8 bits, and the rounding of a sum of K products below 1 in fp32.
    double excess = off - (std::abs(expected[i]) * 0x1p-8 + 1e-6 * p.k);
    if (std::isnan(off)) excess = 1e300;
    if (excess > worst_excess) worst_excess = excess, worst = i;
  }
  error.relative = std::sqrt(difference / norm);
  error.ok = worst_excess <= 0 && error.relative < 4e-3;
  error.worst = cat("C(", worst / p.n, ", ", worst % p.n, ") = ", from_bits(got[worst]), ", expected ",
                    expected[worst]);
  return error;
}

}  // namespace llamita::lessons
