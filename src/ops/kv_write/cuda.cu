// A thread an element of k and the same of v; one block a token.
#include "ops/cuda/element.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/kv_write/variants.h"

namespace llamita {

namespace {

constexpr int kThreads = 256;

template <class In, class Element>
struct KvWriteParams {
  const In* k;
  const In* v;
  const int64_t* slots;
  Element* k_cache;
  Element* v_cache;
  int64_t k_stride, v_stride;            // from token to token
  int64_t k_page_stride, v_page_stride;  // from page to page
  int elems, head_dim;                   // Hkv * D, D
};

template <class In, class Element>
__global__ void __launch_bounds__(kThreads) write_tokens(const KvWriteParams<In, Element> p) {
  device::wait_for_predecessor();
  device::start_successor();
  const int64_t slot = p.slots[blockIdx.x];
  if (slot < 0) return;
  const int64_t page = slot / kPageTokens;
  const int offset = static_cast<int>(slot % kPageTokens);
  for (int i = threadIdx.x; i < p.elems; i += kThreads) {
    const int head = i / p.head_dim, d = i % p.head_dim;
    const int64_t at = (int64_t{head} * kPageTokens + offset) * p.head_dim + d;
    p.k_cache[page * p.k_page_stride + at] =
        device::from_f32<Element>(device::to_f32(p.k[blockIdx.x * p.k_stride + i]));
    p.v_cache[page * p.v_page_stride + at] =
        device::from_f32<Element>(device::to_f32(p.v[blockIdx.x * p.v_stride + i]));
  }
}

template <class In, class Element>
void write(const KvWriteArgs& args, Context& context) {
  const KvWriteParams<In, Element> params{.k = static_cast<const In*>(args.k.data()),
                                          .v = static_cast<const In*>(args.v.data()),
                                          .slots = args.kv_slot.ptr<int64_t>(),
                                          .k_cache = static_cast<Element*>(args.k_cache.data()),
                                          .v_cache = static_cast<Element*>(args.v_cache.data()),
                                          .k_stride = args.k.stride(0),
                                          .v_stride = args.v.stride(0),
                                          .k_page_stride = args.k_cache.stride(0),
                                          .v_page_stride = args.v_cache.stride(0),
                                          .elems = static_cast<int>(args.k.dim(1) * args.k.dim(2)),
                                          .head_dim = static_cast<int>(args.k.dim(2))};
  launch(context, write_tokens<In, Element>, dim3(static_cast<unsigned>(args.k.dim(0))), kThreads, 0, params);
}

}  // namespace

void kv_write_cuda(const KvWriteArgs& args, Context& context) {
  with_float_type(args.k.dtype(), [&]<class In>() {
    with_float_type(args.k_cache.dtype(), [&]<class Element>() { write<In, Element>(args, context); });
  });
}

}  // namespace llamita
