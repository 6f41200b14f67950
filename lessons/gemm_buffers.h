// The matrices of a problem, in several sets that are used in turn.
#pragma once

#include <vector>

#include "lessons/bench.h"
#include "lessons/gemm_bench.h"
#include "lessons/gemm_check.h"

namespace llamita::lessons {

// Enough sets of matrices that the L2 cache has forgotten one before it is used again.
struct GemmBench::Buffers {
  std::vector<Guarded> a, b, c;
  Shape shape;

  Buffers(const Shape& s, size_t sets, uint64_t seed, const cuda::Stream& stream) : shape(s) {
    for (size_t i = 0; i < sets; ++i) {
      a.emplace_back(size_t(s.m) * s.k, stream);
      b.emplace_back(size_t(s.n) * s.k, stream);
      c.emplace_back(size_t(s.m) * s.n, stream);
      fill_random(a[i].data(), a[i].count, seed + 3 * i, stream);
      fill_random(b[i].data(), b[i].count, seed + 3 * i + 1, stream);
    }
    stream.synchronize();
  }
  Gemm problem(size_t i) const {
    const size_t set = i % a.size();
    return {a[set].data(), b[set].data(), c[set].data(), shape.m, shape.n, shape.k};
  }
};

}  // namespace llamita::lessons
