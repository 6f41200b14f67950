// attn_in on the CPU in two regions, of which a single token needs only the second, because the first is one
// chunk. First every token's norm and what the projection makes of it; then the projection's rows, where
// whoever multiplies the last rows of a head norms, rotates and writes it: what the composition does in three
// to six more regions, and for a single token between them, on one thread. The bits are the composition's:
// both call the same rows of norm, linear, rope and kv_write.
#include <atomic>
#include <cstring>

#include "ops/attn_in/variants.h"
#include "ops/cpu.h"
#include "ops/kv_write/row.h"
#include "ops/linear/variants.h"
#include "ops/norm_product.h"
#include "ops/rope/row.h"

namespace llamita {

namespace {

class AttnInCpu {
 public:
  AttnInCpu(const AttnInArgs& args, const Caps& caps, Arena& arena)
      : args_(args),
        normed_(arena.take(DType::f32, {args.x.dim(0), args.x.dim(1)})),
        qkv_(arena.take(DType::f32, {args.x.dim(0), args.qkv->rows()})),
        left_(arena.take(DType::i32, {heads()})),
        product_(projection(), *linear_cpu_kernels(projection(), caps), arena) {}

  void run(ThreadPool& pool) const {
    std::fill_n(left_.ptr<int32_t>(), heads(), static_cast<int32_t>(D()));
    norm_and_prepare(args_, normed_, product_, pool);
    pool.parallel_for(product_.units(), grain(), [&](int64_t begin, int64_t end) {
      product_.for_rows(begin, end, [&](const CpuProduct::Rows& rows) {
        product_.multiply(rows);
        count(rows.first, rows.first + rows.end - rows.begin);
      });
    });
  }

 private:
  int64_t H() const { return args_.q.dim(1); }
  int64_t D() const { return args_.q.dim(2); }
  int64_t Hkv() const { return args_.k_cache.dim(1); }
  int64_t heads() const { return H() + 2 * Hkv(); }
  LinearArgs projection() const {
    return {.x = normed_, .weight = args_.qkv, .bias = args_.qkv_bias, .residual = {}, .out = qkv_};
  }

  // Where a chunk is about a head or more, whole heads, which a thread then finishes without counting.
  int64_t grain() const {
    const int64_t units = product_.row_grain(product_.unit());
    const int64_t of_head = D() / product_.unit();
    return D() % product_.unit() != 0 || 2 * units < of_head ? units
                                                             : (units + of_head - 1) / of_head * of_head;
  }

  // Rows [begin, end) of the projection are there: heads that have all of theirs are finished.
  void count(int64_t begin, int64_t end) const {
    for (int64_t head = begin / D(); head * D() < end; ++head) {
      const auto rows = static_cast<int32_t>(std::min(end, (head + 1) * D()) - std::max(begin, head * D()));
      std::atomic_ref left(left_.ptr<int32_t>()[head]);
      if (rows == D() || left.fetch_sub(rows, std::memory_order_acq_rel) == rows) finish(head);
    }
  }

  void finish(int64_t head) const {
    const int64_t T = normed_.dim(0), N = qkv_.dim(1);
    for (int64_t t = 0; t < T; ++t) {
      float* values = qkv_.ptr<float>() + t * N + head * D();
      if (head < H()) {
        norm_and_rotate(values, args_.q_norm, t);
        std::memcpy(args_.q.ptr<float>() + t * args_.q.stride(0) + head * D(), values,
                    static_cast<size_t>(D()) * sizeof(float));
        continue;
      }
      const bool is_k = head < H() + Hkv();
      if (is_k) norm_and_rotate(values, args_.k_norm, t);
      kv_write_head(values, is_k ? args_.k_cache : args_.v_cache, args_.kv_slot.ptr<int64_t>()[t],
                    (head - H()) % Hkv());
    }
  }

  void norm_and_rotate(float* values, const Tensor& weight, int64_t t) const {
    if (weight.defined()) {
      norm_row(NormKind::rms, values, weight.ptr<float>(), nullptr, args_.norm_eps, D(), values);
    }
    if (args_.cos_sin.defined()) {
      rope_head(values, args_.cos_sin.ptr<float>() + t * args_.cos_sin.stride(0), args_.cos_sin.dim(1) / 2);
    }
  }

  const AttnInArgs& args_;
  Tensor normed_, qkv_;  // (T, C), (T, (H + 2 Hkv) D)
  Tensor left_;          // (H + 2 Hkv) i32: rows of a head that are not yet multiplied
  CpuProduct product_;
};

}  // namespace

bool attn_in_cpu_supports(const AttnInArgs& args, const Caps& caps) {
  return on_cpu(args, caps) && linear_has_cpu_kernels(*args.qkv, caps);
}

void attn_in_cpu(const AttnInArgs& args, Context& context) {
  const Arena::Scope scope(context.arena());
  AttnInCpu(args, context.caps(), context.arena()).run(context.pool());
}

int64_t attn_in_cpu_scratch_bytes(const AttnInArgs& args, const Caps& caps) {
  Arena measuring;
  const AttnInCpu fused(args, caps, measuring);
  return static_cast<int64_t>(measuring.peak());
}

}  // namespace llamita
