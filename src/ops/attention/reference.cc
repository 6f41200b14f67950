// Two passes over the keys of one row and head, in double: scores and their softmax, then the weighted sum of
// the values. The specification of the other variants, which do the same in one pass.
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "ops/attention/variants.h"
#include "quant/kv_side.h"

namespace llamita {

namespace {

template <class Element>
double value_of(Element element) {
  if constexpr (std::is_same_v<Element, int8_t>)
    return element;
  else
    return to_float(element);
}

// One sequence's keys or values of one head.
template <class Element>
struct PagedRows {
  const Tensor& cache;
  const int32_t* pages;
  int64_t kv_head, D;

  const Element* row(int64_t key) const {
    return cache.ptr<Element>() + pages[key / kPageTokens] * cache.stride(0) +
           (kv_head * kPageTokens + key % kPageTokens) * D;
  }
  // What the elements of the row are multiplied by.
  double scale(int64_t key) const {
    if constexpr (!std::is_same_v<Element, int8_t>)
      return 1;
    else
      return to_float(kv_scales(cache, pages[key / kPageTokens])[kv_head * kPageTokens + key % kPageTokens]);
  }
};

template <class Element>
PagedRows<Element> paged_rows(const AttentionArgs& args, const Tensor& cache, int64_t sequence,
                              int64_t kv_head) {
  return {cache, args.block_table.ptr<int32_t>() + sequence * args.block_table.stride(0), kv_head,
          cache.dim(3)};
}

template <class Element>
void attend(const AttentionArgs& args, const float* q, const PagedRows<Element>& keys,
            const PagedRows<Element>& values, int64_t position, int64_t end, float* out) {
  const int64_t first = args.window > 0 ? std::max<int64_t>(0, position + 1 - args.window) : 0;
  const int64_t D = keys.D;
  std::vector<double> weights(static_cast<size_t>(end - first));
  double largest = -INFINITY;
  for (int64_t key = first; key < end; ++key) {
    const Element* k = keys.row(key);
    double dot = 0;
    for (int64_t d = 0; d < D; ++d) dot += static_cast<double>(q[d]) * value_of(k[d]);
    dot *= args.scale * keys.scale(key);
    weights[static_cast<size_t>(key - first)] = dot;
    largest = std::max(largest, dot);
  }
  double sum = 0;
  for (double& weight : weights) sum += weight = std::exp(weight - largest);
  std::vector<double> result(static_cast<size_t>(D));
  for (int64_t key = first; key < end; ++key) {
    const Element* v = values.row(key);
    const double weight = weights[static_cast<size_t>(key - first)] * values.scale(key);
    for (int64_t d = 0; d < D; ++d) result[static_cast<size_t>(d)] += weight * value_of(v[d]);
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
      for (int64_t t = item.q_begin; t < item.q_end; ++t) {
        const int64_t position = item.first_position + (t - item.q_begin);
        const int64_t end_key = args.causal ? position + 1 : args.kv_len.ptr<int32_t>()[item.sequence];
        for (int64_t head = 0; head < H; ++head) {
          attend<Element>(args, args.q.ptr<float>() + t * args.q.stride(0) + head * D,
                          paged_rows<Element>(args, args.k_cache, item.sequence, head / group),
                          paged_rows<Element>(args, args.v_cache, item.sequence, head / group), position,
                          end_key, args.out.ptr<float>() + t * args.out.stride(0) + head * D);
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
    case DType::i8: return attend_all<int8_t>(args, context);
    default: return attend_all<bf16>(args, context);
  }
}

}  // namespace llamita
