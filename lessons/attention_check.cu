#include "lessons/attention_check.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/cat.h"
#include "hw/cuda/launch.h"
#include "hw/cuda/memory.h"

namespace llamita::lessons {

namespace {

constexpr int kThreads = 128;

__device__ __forceinline__ uint64_t mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

__global__ void uniform_bf16(__nv_bfloat16* data, size_t count, uint64_t seed) {
  for (size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += size_t(gridDim.x) * blockDim.x)
    data[i] = __float2bfloat16(static_cast<float>(mix(seed ^ mix(i)) >> 40) * 0x1p-23f - 1.0f);
}

template <class Op>
__device__ double reduce_block(double value, Op op) {
  __shared__ double scratch[kThreads];
  scratch[threadIdx.x] = value;
  __syncthreads();
  for (int step = kThreads / 2; step > 0; step /= 2) {
    if (threadIdx.x < step) scratch[threadIdx.x] = op(scratch[threadIdx.x], scratch[threadIdx.x + step]);
    __syncthreads();
  }
  value = scratch[0];
  __syncthreads();
  return value;
}

// For row blockIdx.x * every of (B T H): expected (D), and noise (D) = sqrt(sum of squares of the terms of
// the sum), the size of what rounding each weight does.
__global__ void reference_fp64(Attention p, size_t every, double* expected, double* noise) {
  extern __shared__ double scores[];  // T
  const size_t row = blockIdx.x * every;
  const int head = row % p.heads, t = row / p.heads % p.tokens;
  const size_t batch = row / p.heads / p.tokens;
  const int keys = p.causal ? t + 1 : p.tokens;
  const size_t stride = size_t(p.kv_heads) * p.dim;
  const size_t first = (batch * p.tokens * p.kv_heads + head / (p.heads / p.kv_heads)) * p.dim;
  double highest = -1e300;
  for (int key = threadIdx.x; key < keys; key += kThreads) {
    double sum = 0;
    for (int d = 0; d < p.dim; ++d)
      sum += double(__bfloat162float(p.q[row * p.dim + d])) *
             double(__bfloat162float(p.k[first + key * stride + d]));
    scores[key] = sum * p.scale;
    highest = fmax(highest, scores[key]);
  }
  highest = reduce_block(highest, [](double a, double b) { return fmax(a, b); });
  double total = 0;
  for (int key = threadIdx.x; key < keys; key += kThreads) total += scores[key] = exp(scores[key] - highest);
  total = reduce_block(total, [](double a, double b) { return a + b; });
  for (int d = threadIdx.x; d < p.dim; d += kThreads) {
    double sum = 0, squares = 0;
    for (int key = 0; key < keys; ++key) {
      const double term = scores[key] / total * double(__bfloat162float(p.v[first + key * stride + d]));
      sum += term;
      squares += term * term;
    }
    expected[size_t(blockIdx.x) * p.dim + d] = sum;
    noise[size_t(blockIdx.x) * p.dim + d] = sqrt(squares);
  }
}

float from_bits(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  memcpy(&value, &wide, sizeof value);
  return value;
}

}  // namespace

void fill_uniform(__nv_bfloat16* data, size_t count, uint64_t seed, const cuda::Stream& stream) {
  cuda::launch(uniform_bf16, {.grid = dim3(1024), .block = dim3(256), .stream = stream.get()}, data, count,
               seed);
}

AttentionError compare_with_fp64(const Attention& p, size_t rows, const cuda::Stream& stream) {
  const size_t all = size_t(p.batch) * p.tokens * p.heads;
  size_t every = std::max<size_t>(1, all / rows);
  if (every > 1) every |= 1;  // odd, so that all heads have their turn
  const size_t compared = (all + every - 1) / every, count = compared * p.dim;
  const Storage results = cuda::allocate_storage(2 * count * sizeof(double), 0);
  auto* device = static_cast<double*>(results.data());
  cuda::launch(reference_fp64,
               {.grid = dim3(static_cast<unsigned>(compared)),
                .block = dim3(kThreads),
                .smem = p.tokens * sizeof(double),
                .stream = stream.get()},
               p, every, device, device + count);
  std::vector<double> expected(2 * count);
  std::vector<uint16_t> got(all * p.dim);
  cuda::copy_async(expected.data(), device, 2 * count * sizeof(double), stream);
  cuda::copy_async(got.data(), p.out, got.size() * sizeof(uint16_t), stream);
  stream.synchronize();

  AttentionError error;
  double difference = 0, norm = 0, worst_excess = -1e300;
  size_t worst = 0;
  for (size_t i = 0; i < count; ++i) {
    const double value = from_bits(got[i / p.dim * every * p.dim + i % p.dim]);
    const double off = std::abs(value - expected[i]);
    difference += off * off;
    norm += expected[i] * expected[i];
    // The result's rounding to bf16, six deviations of the weights' rounding, and fp32's slack.
    double excess = off - (std::abs(expected[i]) * 0x1p-8 + 6 * expected[count + i] * 0x1p-9 + 2e-5);
    if (std::isnan(off)) excess = 1e300;
    if (excess > worst_excess) worst_excess = excess, worst = i;
  }
  error.relative = std::sqrt(difference / norm);
  error.ok = worst_excess <= 0 && error.relative < 6e-3;
  const size_t row = worst / p.dim * every;
  error.worst =
      cat("O(b ", row / p.heads / p.tokens, ", t ", row / p.heads % p.tokens, ", h ", row % p.heads, ", d ",
          worst % p.dim, ") = ", from_bits(got[row * p.dim + worst % p.dim]), ", expected ", expected[worst]);
  return error;
}

}  // namespace llamita::lessons
