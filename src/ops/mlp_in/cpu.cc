// mlp_in on the CPU in two regions, of which a single token needs only the second, because the first is one
// chunk. First every token's norm and what the projection makes of it; then the rows of gate and, right
// after, the same rows of up, which the activation folds while both are in the thread's caches. The
// composition does that in a region of its own, from (T, 2F) in memory, and for a single token on one thread.
// The bits are the composition's: both call the same rows of norm, linear and activation.
#include <vector>

#include "ops/activation/row.h"
#include "ops/cpu.h"
#include "ops/linear/variants.h"
#include "ops/mlp_in/variants.h"
#include "ops/norm_product.h"

namespace llamita {

namespace {

class MlpInCpu {
 public:
  MlpInCpu(const MlpInArgs& args, const Caps& caps, Arena& arena)
      : args_(args),
        isa_(caps.isa),
        normed_(arena.take(DType::f32, {args.x.dim(0), args.x.dim(1)})),
        product_(projection(), *linear_cpu_kernels(projection(), caps), arena) {}

  void run(ThreadPool& pool) const {
    norm_and_prepare(args_, normed_, product_, pool);
    const int64_t unit = product_.unit();
    if (args_.gated) {
      const int64_t F = args_.out.dim(1), units = (F + unit - 1) / unit;
      return pool.parallel_for(units, product_.row_grain(2 * unit), [&](int64_t begin, int64_t end) {
        fold(begin * unit, std::min(end * unit, F));
      });
    }
    const int64_t units = product_.units();
    pool.parallel_for(units, product_.row_grain(unit), [&](int64_t begin, int64_t end) {
      product_.for_rows(begin, end, [&](const CpuProduct::Rows& rows) {
        product_.multiply(rows, out(0, rows.first), args_.out.stride(0));
        activate(rows.first, rows.end - rows.begin, nullptr);
      });
    });
  }

 private:
  LinearArgs projection() const {
    const Tensor shape(nullptr, DType::f32, {args_.x.dim(0), args_.in->rows()});  // no (T, 2F) is ever made
    return {.x = normed_, .weight = args_.in, .bias = args_.bias, .residual = {}, .out = shape};
  }
  float* out(int64_t t, int64_t f) const { return args_.out.ptr<float>() + t * args_.out.stride(0) + f; }

  // Columns [begin, end) of out.
  void fold(int64_t begin, int64_t end) const {
    const int64_t F = args_.out.dim(1), count = end - begin;
    thread_local std::vector<float> up;  // (T, count); grows once: a step allocates nothing
    up.resize(std::max(up.size(), static_cast<size_t>(product_.T() * count)));
    product_.multiply({0, begin, end, begin}, out(0, begin), args_.out.stride(0));
    product_.multiply({1, begin, end, F + begin}, up.data(), count);
    activate(begin, count, up.data());
  }

  void activate(int64_t f, int64_t count, const float* up) const {
    for (int64_t t = 0; t < product_.T(); ++t) {
      activation_row(args_.activation, isa_, out(t, f), up == nullptr ? nullptr : up + t * count, out(t, f),
                     count);
    }
  }

  const MlpInArgs& args_;
  cpu::Isa isa_;
  Tensor normed_;  // (T, C)
  CpuProduct product_;
};

}  // namespace

// Gate and up in one piece, as some files have them, share no border that units could begin at.
bool mlp_in_cpu_supports(const MlpInArgs& args, const Caps& caps) {
  const std::vector<quant::Part>& parts = args.in->parts;
  const bool apart = !args.gated || (parts.size() == 2 && parts[0].rows == parts[1].rows);
  return on_cpu(args, caps) && linear_has_cpu_kernels(*args.in, caps) && apart;
}

void mlp_in_cpu(const MlpInArgs& args, Context& context) {
  const Arena::Scope scope(context.arena());
  MlpInCpu(args, context.caps(), context.arena()).run(context.pool());
}

int64_t mlp_in_cpu_scratch_bytes(const MlpInArgs& args, const Caps& caps) {
  Arena measuring;
  const MlpInCpu fused(args, caps, measuring);
  return static_cast<int64_t>(measuring.peak());
}

}  // namespace llamita
