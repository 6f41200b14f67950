// Two passes over the keys of one row and head, in double: scores and their softmax, then the weighted sum of
// the values. The specification of the other variants, which do the same in one pass.
#include <algorithm>
#include <cmath>

#include "ops/attention/variants.h"

namespace llamita {

namespace {

// Where one sequence's keys or values of one head lie.
template <class Element>
struct PagedRows {
  const Element* cache;
  const int32_t* pages;
  int64_t page_stride, head_offset, D;

  const Element* row(int64_t key) const {
    return cache + pages[key / kPageTokens] * page_stride + head_offset + key % kPageTokens * D;
  }
};

template <class Element>
PagedRows<Element> paged_rows(const AttentionArgs& args, const Tensor& cache, int64_t sequence,
                              int64_t kv_head) {
  const int64_t D = cache.dim(3);
  return {cache.ptr<Element>(), args.block_table.ptr<int32_t>() + sequence * args.block_table.stride(0),
          cache.stride(0), kv_head * kPageTokens * D, D};
}

template <class Element>
void attend(const AttentionArgs& args, const float* q, const PagedRows<Element>& keys,
            const PagedRows<Element>& values, int64_t position, float* out) {
  const int64_t first = args.window > 0 ? std::max<int64_t>(0, position + 1 - args.window) : 0;
  const int64_t D = keys.D;
  std::vector<double> weights(static_cast<size_t>(position + 1 - first));
  double largest = -INFINITY;
  for (int64_t key = first; key <= position; ++key) {
    const Element* k = keys.row(key);
    double dot = 0;
    for (int64_t d = 0; d < D; ++d) dot += static_cast<double>(q[d]) * to_float(k[d]);
    weights[static_cast<size_t>(key - first)] = dot * args.scale;
    largest = std::max(largest, dot * args.scale);
  }
  double sum = 0;
  for (double& weight : weights) sum += weight = std::exp(weight - largest);
  std::vector<double> result(static_cast<size_t>(D));
  for (int64_t key = first; key <= position; ++key) {
    const Element* v = values.row(key);
    for (int64_t d = 0; d < D; ++d) {
      result[static_cast<size_t>(d)] += weights[static_cast<size_t>(key - first)] * to_float(v[d]);
    }
  }
  for (int64_t d = 0; d < D; ++d) out[d] = static_cast<float>(result[static_cast<size_t>(d)] / sum);
}

template <class Element>
void attend_all(const AttentionArgs& args, Context& context) {
  const int64_t H = args.q.dim(1), D = args.q.dim(2), group = H / args.k_cache.dim(1);
  const auto& items = args.plan->items;
  context.pool().parallel_for(static_cast<int64_t>(items.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const AttentionPlan::Item& item = items[static_cast<size_t>(i)];
      const int64_t last_key = args.kv_len.ptr<int32_t>()[item.sequence] - 1;
      for (int64_t t = item.q_begin; t < item.q_end; ++t) {
        for (int64_t head = 0; head < H; ++head) {
          attend<Element>(args, args.q.ptr<float>() + t * args.q.stride(0) + head * D,
                          paged_rows<Element>(args, args.k_cache, item.sequence, head / group),
                          paged_rows<Element>(args, args.v_cache, item.sequence, head / group),
                          args.causal ? item.first_position + (t - item.q_begin) : last_key,
                          args.out.ptr<float>() + t * args.out.stride(0) + head * D);
        }
      }
    }
  });
}

}  // namespace

void attention_reference(const AttentionArgs& args, Context& context) {
  switch (args.k_cache.dtype()) {
    case DType::f32: return attend_all<float>(args, context);
    case DType::f16: return attend_all<f16>(args, context);
    default: return attend_all<bf16>(args, context);
  }
}

}  // namespace llamita
