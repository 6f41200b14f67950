// persistent_sm90: all layers of one token's step in one kernel, a block a multiprocessor.
//
// Why: such a step is the stream of the weights, 66 us a layer of llama-3.2-3b at the read roof. As five
// kernels a layer, each of which ends, starts its successor and fills its pipeline anew, it took 89 us. Here
// the stream never ends: row after row comes into a ring of 190 KB a multiprocessor, in the order of the
// products and over their borders, and beyond the ring into L2. So the memory is 18 us ahead when the
// consumers must wait for what other blocks make.
//
// Under this load a way to L2 and back takes 1 us, so the consumers' time is counted in such ways. A barrier
// of the grid costs four (a fence, the count, the look at it, the data); here the data are their own barrier:
// every block leaves its results as letters, words that hold a value and a tag, and reads the others' until
// the tags are right. That is five times a layer about two ways: q, k and v (f32, not rotated yet),
// attention's result, the residual stream times the next norm's gain before gate and up and before QKV (1 /
// RMS is a factor of the sums, and comes from sums of squares that each block leaves), and the gated hidden
// row. Whoever leaves letters of a kind has read the letters of another kind that all blocks leave only once
// they are done with the former layer's of this kind, so none is overwritten unread.
//
// Every block has an equal run of consecutive rows of each matrix. Its rows of the residual stream stay in
// its shared memory from the first layer to the last; what it needs beside weights and letters is there too
// or asked for ahead.
//
// Launched cooperatively, so that all blocks run at one time. The roles: persistent_stream.cuh brings the
// weights, persistent_product.cuh multiplies, persistent_attention.cuh attends.
#include <algorithm>
#include <cmath>

#include "hw/cuda/device/ptx/atomic.cuh"
#include "hw/cuda/stream.h"
#include "ops/cuda.h"
#include "ops/cuda/launch.cuh"
#include "ops/decoder_layers/persistent_attention.cuh"
#include "ops/decoder_layers/persistent_product.cuh"
#include "ops/decoder_layers/persistent_stream.cuh"
#include "ops/decoder_layers/variants.h"
#include "ops/linear/dense_matrices.h"

namespace llamita {

namespace {

namespace parts = device::persistent;

using parts::Element;
using parts::Params;

__device__ __forceinline__ float silu(float x) { return __fdividef(x, 1 + __expf(-x)); }

// Where the consumers begin.
struct Begin {
  int first_page;  // of what lies in Storage::pages
  uint32_t tag;    // of the first layer
};

template <int kDim>
__device__ __forceinline__ Begin begin_step(parts::Storage& s, const parts::Share& own) {
  const parts::Step& p = s.step;
  const auto tag = static_cast<uint32_t>(*p.letters.last_tag) + 1;
  const parts::AttentionShare attention(p, 0, s.keys);
  const int thread = threadIdx.x, first_page = attention.begin * 16 / kPageTokens;
  if (attention.exists(p) && thread < parts::kMostPages && (first_page + thread) * kPageTokens < s.keys)
    s.pages[thread] = p.block_table[first_page + thread];
  if (thread < kDim) s.turn[thread] = p.cos_sin[thread];
  if (thread < own.rows) {
    s.own[thread] = p.x[own.first + thread];
    s.gains[1][thread] = s.layer[0].attn_norm[own.first + thread];
  }
  parts::consumer_sync();
  if (thread < 32) parts::post_own(p, s, 0, s.gains[1], own.first, own.rows, tag);
  return {first_page, tag};
}

// What finishing a product will want besides its sums, asked for before they are there.
struct Wanted {
  float2 bias = {0, 0};
  float gains[2] = {0, 0};

  __device__ __forceinline__ Wanted(const parts::Storage& s, const parts::Share& share,
                                    const parts::Share& own, int layer, int product) {
    if (product != parts::kQkv) return;
    const parts::Layer& l = s.layer[layer];
    const int thread = threadIdx.x;
    if (thread < share.rows / 2 && l.qkv_bias != nullptr)
      bias = *reinterpret_cast<const float2*>(l.qkv_bias + share.first + 2 * thread);
    if (thread >= own.rows) return;
    gains[0] = l.mlp_norm[own.first + thread];
    if (layer + 1 < s.step.layers) gains[1] = s.layer[layer + 1].attn_norm[own.first + thread];
  }
};

// A thread two rows of the product: to the other blocks, to the gates, or to the residual stream.
__device__ __forceinline__ void finish_pair(parts::Storage& s, const parts::Share& share, int product,
                                            float2 bias, uint32_t tag) {
  const parts::Step& p = s.step;
  const int pair = threadIdx.x;
  if (pair >= share.rows / 2) return;
  float2 sum = parts::pair_of_sums(s, product, pair);
  if (product == parts::kOut || product == parts::kDown) {
    s.own[2 * pair] += sum.x;
    s.own[2 * pair + 1] += sum.y;
    return;
  }
  sum = {sum.x * s.inverse + bias.x, sum.y * s.inverse + bias.y};
  auto& gate = *reinterpret_cast<float2*>(&s.gates[2 * pair]);
  if (product == parts::kQkv)
    ptx::post_two_letters(p.letters.qkv + share.first + 2 * pair, __float_as_uint(sum.x),
                          __float_as_uint(sum.y), tag);
  else if (product == parts::kGate)
    gate = sum;
  else
    ptx::post_letter(p.letters.hidden + share.first / 2 + pair,
                     device::pack2<Element>(silu(gate.x) * sum.x, silu(gate.y) * sum.y), tag);
}

template <int kDim>
__device__ __forceinline__ void consume(parts::Storage& s) {
  const parts::Step& p = s.step;
  const parts::Share own(p, s.layer[0], parts::kOut);  // whose rows are the residual stream's
  const Begin begin = begin_step<kDim>(s, own);
  parts::RingPlace at;
  // One copy of each part of the code: a kernel that runs through more code than the instruction cache holds
  // waits for it as for data, and under this load that is long.
#pragma unroll 1
  for (int layer = 0; layer < p.layers; ++layer) {
    const uint32_t tag = begin.tag + static_cast<uint32_t>(layer);
#pragma unroll 1
    for (int product = 0; product < parts::kProducts; ++product) {
      if (product == parts::kOut) parts::attend<kDim>(layer, begin.first_page, tag);
      const parts::Share share(p, s.layer[layer], product);
      const Wanted wanted(s, share, own, layer, product);
      if (product != parts::kUp) parts::receive_input(p, s, product, tag);
      if (product == parts::kQkv && threadIdx.x < own.rows) {
        s.gains[0][threadIdx.x] = wanted.gains[0];
        s.gains[1][threadIdx.x] = wanted.gains[1];
      }
      parts::multiply(s, share, product, at);
      finish_pair(s, share, product, wanted.bias, tag);
      if ((product != parts::kOut && product != parts::kDown) || threadIdx.x >= 32) continue;
      __syncwarp();
      if (product == parts::kOut || layer + 1 < p.layers) {
        const int norm = product == parts::kOut ? 1 : 0;
        parts::post_own(p, s, norm, s.gains[1 - norm], own.first, own.rows, tag + (norm == 0 ? 1 : 0));
      }
    }
  }
  if (threadIdx.x < 32)
    for (int row = threadIdx.x; row < own.rows; row += 32) p.x[own.first + row] = s.own[row];
  // Whoever is last leaves the last tag for the next launch; all have read theirs.
  if (threadIdx.x == 0 && ptx::atomic_inc_acq_rel(p.done, gridDim.x - 1) == gridDim.x - 1)
    *p.letters.last_tag = begin.tag + static_cast<uint32_t>(p.layers) - 1;
}

template <int kDim>
__global__ void __launch_bounds__(parts::kThreads, 1) decode_layers(const __grid_constant__ Params p) {
  auto& s = parts::storage();
  parts::copy_parameters(p, s);
  if (threadIdx.x < parts::kStages) {
    ptx::mbarrier_init(&s.full[threadIdx.x], parts::kLoaderWarps);
    ptx::mbarrier_init(&s.empty[threadIdx.x], parts::kConsumerWarps);
    ptx::mbarrier_init_fence();
  }
  if (threadIdx.x == 32) s.keys = *p.step.kv_len, s.slot = *p.step.slot, s.asked = 0;
  __syncthreads();
  if (threadIdx.x >= parts::kConsumers) {
    ptx::setmaxnreg_decrease<40>();
    parts::stream_weights(s);
  } else {
    ptx::setmaxnreg_increase<232>();
    consume<kDim>(s);
  }
}

// Sizes that follow from the arguments.
struct Shape {
  int64_t T, C, F, H, Hkv, D, splits, blocks;
};

Shape shape_of(const DecoderLayersArgs& args, const Caps& caps) {
  const DecoderLayer& layer = args.layers.front();
  Shape s{.T = args.x.dim(0),
          .C = args.x.dim(1),
          .F = layer.down->cols,
          .H = args.heads,
          .Hkv = layer.k_cache.dim(1),
          .D = layer.k_cache.dim(3),
          .splits = 1,
          .blocks = caps.sm_count};
  // A block's warps take 128 keys in a turn. A block with two turns is as fast as two blocks with one, since
  // what splits leave has to be added up by all; with three it is not.
  constexpr int64_t kTurn = 16 * parts::kConsumerWarps;
  const int64_t turns = (args.plan->max_kv_len + kTurn - 1) / kTurn, wanted = turns <= 2 ? 1 : turns;
  s.splits = std::clamp<int64_t>(std::min(wanted, s.blocks / s.Hkv), 1, parts::kMostSplits);
  return s;
}

// Where the letters of a shape lie, in words from the beginning.
struct LetterPlaces {
  int64_t qkv, mixed, weights, hidden, scaled[2], squares[2], words = 2;  // the first is the last tag

  explicit LetterPlaces(const Shape& s) {
    const auto place = [&](int64_t wanted) {
      const int64_t at = words;
      words += (wanted + 1) / 2 * 2;
      return at;
    };
    qkv = place((s.H + 2 * s.Hkv) * s.D);
    mixed = place(s.splits * s.H * s.D / 2);
    weights = place(s.splits * s.H);
    hidden = place(s.F / 2);
    for (int64_t& at : scaled) at = place(s.C / 2);
    for (int64_t& at : squares) at = place(s.blocks);
  }
};

bool weight_fits(const quant::Weight& weight) {
  if (weight.layout != quant::Layout::rows || weight.experts != 1 || weight.cols % 32 != 0) return false;
  for (const quant::Part& part : weight.parts)
    if (part.format != DType::bf16 || reinterpret_cast<uintptr_t>(part.storage.data()) % 16 != 0)
      return false;
  int matrices = 0;
  for_each_dense_matrix(weight, [&](const void*, int64_t, int64_t) { ++matrices; });
  return matrices == 1;
}

template <class T>
T* start_of(const quant::Weight& weight) {
  return static_cast<T*>(const_cast<void*>(static_cast<const void*>(weight.parts.front().storage.data())));
}

template <int kDim>
void launch_layers(const Params& params, const Shape& shape, Context& context) {
  cuda::launch(decode_layers<kDim>,
               {.grid = dim3(static_cast<unsigned>(shape.blocks)),
                .block = dim3(parts::kThreads),
                .smem = sizeof(parts::Storage),
                .stream = context.stream().get(),
                .cooperative = true},
               params);
}

}  // namespace

bool decoder_layers_persistent_sm90_supports(const DecoderLayersArgs& args, const Caps& caps) {
  if (!on_cuda(args, caps) || caps.arch != 90 || caps.activation != DType::bf16 || caps.sm_count <= 0)
    return false;
  if (args.layers.size() > parts::kMostLayers) return false;
  const Shape s = shape_of(args, caps);
  if (s.T != 1 || args.kv_len.dim(0) != 1 || args.plan->max_q_len != 1) return false;
  if ((s.D != 64 && s.D != 128) || args.cos_sin.dim(1) != s.D) return false;
  if (s.H % s.Hkv != 0 || s.H / s.Hkv > parts::kMostGroup || s.Hkv > s.blocks) return false;
  const auto share = [&](int64_t rows) { return 2 * ((rows / 2 + s.blocks - 1) / s.blocks); };
  if (share(s.C) > parts::kMostOwnRows || share(s.F) > parts::kMostRows ||
      share((s.H + 2 * s.Hkv) * s.D) > parts::kMostRows || s.F > parts::kMostK ||
      std::max(s.C, s.H * s.D) > parts::Storage::kSumsAt)
    return false;
  if (LetterPlaces(s).words * sizeof(uint64_t) > cuda::Stream::kLetterBytes) return false;
  const DecoderLayer& first = args.layers.front();
  return std::all_of(args.layers.begin(), args.layers.end(), [&](const DecoderLayer& layer) {
    return weight_fits(*layer.qkv) && weight_fits(*layer.out) && weight_fits(*layer.gate_up) &&
           weight_fits(*layer.down) && layer.k_cache.dtype() == DType::bf16 &&
           layer.k_cache.stride(0) == first.k_cache.stride(0) &&
           layer.v_cache.stride(0) == first.v_cache.stride(0);
  });
}

// From a layer's times of 1B, 3B and 8B models at 192 to 2048 keys on one H100 (bench_decode), less its
// bytes: 6.5 us, and what attention takes longer than its bytes, more where heads are wide or KV heads many.
double decoder_layers_persistent_sm90_us(const DecoderLayersArgs& args, const Caps&) {
  const Cost cost = decoder_layers_op().cost(args);
  const auto layers = static_cast<double>(args.layers.size());
  const Tensor& k_cache = args.layers.front().k_cache;
  const double width =
      std::max(1.0, static_cast<double>(k_cache.dim(1)) / 8) * static_cast<double>(k_cache.dim(3));
  return (cost.bytes_read + cost.bytes_written) / 3.05e6 +
         layers * (6.5 + 0.000025 * width * args.plan->max_kv_len);
}

void decoder_layers_persistent_sm90(const DecoderLayersArgs& args, Context& context) {
  const Shape shape = shape_of(args, context.caps());
  const LetterPlaces places(shape);
  const DecoderLayer& first = args.layers.front();
  uint64_t* letters = context.stream().letters();
  Params params{};
  parts::Step& p = params.step;
  p.layers = static_cast<int>(args.layers.size());
  p.C = static_cast<int>(shape.C);
  p.F = static_cast<int>(shape.F);
  p.heads = static_cast<int>(shape.H);
  p.kv_heads = static_cast<int>(shape.Hkv);
  p.head_dim = static_cast<int>(shape.D);
  p.splits = static_cast<int>(shape.splits);
  p.norm_eps = args.norm_eps;
  p.scale = 1 / std::sqrt(static_cast<float>(shape.D));
  p.x = args.x.ptr<float>();
  p.cos_sin = args.cos_sin.ptr<float>();
  p.slot = args.kv_slot.ptr<int64_t>();
  p.kv_len = args.kv_len.ptr<int32_t>();
  p.block_table = args.block_table.ptr<int32_t>();
  p.k_page_stride = first.k_cache.stride(0);
  p.v_page_stride = first.v_cache.stride(0);
  p.letters = {.last_tag = letters,
               .qkv = letters + places.qkv,
               .mixed = letters + places.mixed,
               .weights = letters + places.weights,
               .hidden = letters + places.hidden,
               .scaled = {letters + places.scaled[0], letters + places.scaled[1]},
               .squares = {letters + places.squares[0], letters + places.squares[1]}};
  p.done = context.stream().counters();
  for (size_t i = 0; i < args.layers.size(); ++i) {
    const DecoderLayer& layer = args.layers[i];
    params.layer[i] = {.qkv = start_of<const Element>(*layer.qkv),
                       .out = start_of<const Element>(*layer.out),
                       .gate_up = start_of<const Element>(*layer.gate_up),
                       .down = start_of<const Element>(*layer.down),
                       .attn_norm = layer.attn_norm.ptr<float>(),
                       .mlp_norm = layer.mlp_norm.ptr<float>(),
                       .qkv_bias = data_or_null<const float>(layer.qkv_bias),
                       .q_norm = data_or_null<const float>(layer.q_norm),
                       .k_norm = data_or_null<const float>(layer.k_norm),
                       .k_cache = static_cast<Element*>(layer.k_cache.data()),
                       .v_cache = static_cast<Element*>(layer.v_cache.data()),
                       .window = layer.window};
  }
  if (shape.D == 64)
    launch_layers<64>(params, shape, context);
  else
    launch_layers<128>(params, shape, context);
}

}  // namespace llamita
