// The peer of the ladder: cuBLASLt, loaded when first asked for, so that nothing links it. Of the algorithms
// its heuristic proposes, each is timed on the buffers of the run and the fastest is the peer.
#pragma once

#include <memory>

#include "hw/cuda/stream.h"
#include "lessons/gemm.h"

namespace llamita::lessons {

class CublasLt {
 public:
  static constexpr int kMaxAlgorithms = 16;

  // Null when the library or its header is not there; `why` then says which.
  static std::unique_ptr<CublasLt> load(const char** why);
  virtual ~CublasLt() = default;

  // Asks for algorithms for this shape and returns how many there are.
  virtual int propose(const Gemm& p) = 0;
  // Queues proposal `algorithm` for a problem of the proposed shape. Throws Error when it is refused.
  virtual void run(const Gemm& p, int algorithm, const cuda::Stream& stream) = 0;
};

}  // namespace llamita::lessons
