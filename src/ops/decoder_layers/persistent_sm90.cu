// persistent_sm90: all layers of a decode step in one kernel, a block a multiprocessor, for up to sixteen
// tokens.
//
// Why: a step of single tokens is the stream of the weights, 66 us a layer of llama-3.2-3b at the read roof.
// As five kernels a layer, each of which ends, starts its successor and fills its pipeline anew, it took 89
// us. Here the stream never ends: four warps fetch row after row into a ring of 200 KB a multiprocessor, in
// the order of the products and over their borders, and are 7 us ahead when the consumers wait at a barrier
// of the whole grid for the other blocks' part of a result. Five such barriers a layer (QKV, attention, out,
// gate and up, down) cost 2 to 3 us each, which the ring bridges.
//
// Every block has an equal run of consecutive rows of each matrix. Its rows of the residual stream stay in
// its shared memory from the first layer to the last. What blocks hand each other goes through global memory
// (that is, L2): q, k and v in fp32 before rotation, the residual stream times the next norm's gain in bf16
// (1 / RMS is a factor of the sums, and comes from sums of squares that each block leaves), attention's
// result, the gated hidden row.
//
// Launched cooperatively, so that all blocks run at one time. The roles: persistent_stream.cuh brings the
// weights, persistent_product.cuh multiplies, persistent_attention.cuh attends.
#include <algorithm>
#include <cmath>

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

__device__ __forceinline__ float silu(float x) { return x / (1 + __expf(-x)); }

template <int kTokens>
__device__ __forceinline__ void run_product(const Params& p, parts::Storage& s, int layer, int product,
                                            parts::Cursor& at) {
  const parts::Share share(p, layer, product);
  if (product == parts::kQkv || product == parts::kGate) parts::read_squares(p, s);
  parts::Sums<kTokens> sums;
  parts::multiply<kTokens>(p, s, share, product, at, sums);
  const float* bias = p.layer[layer].qkv_bias;
  parts::add_warps<kTokens>(p, s, share, sums, [&](int row, int token, float sum) {
    switch (product) {
      case parts::kQkv:
        sum *= s.inverse[token];
        if (bias != nullptr) sum += bias[share.first + row];
        p.qkv[int64_t{token} * p.qkv_rows() + share.first + row] = sum;
        break;
      case parts::kGate: s.gates[row][token] = sum * s.inverse[token]; break;
      case parts::kUp:
        p.hidden[int64_t{token} * p.F + share.first + row] =
            device::from_f32<Element>(silu(s.gates[row][token]) * sum * s.inverse[token]);
        break;
      default: s.own[row][token] += sum; break;
    }
  });
}

template <int kTokens, int kDim>
__device__ __forceinline__ void consume(const Params& p, parts::Storage& s) {
  const parts::Share own(p, 0, parts::kOut);  // whose rows are the residual stream's
  const auto each_own = [&](auto&& f) {
    for (int i = threadIdx.x; i < own.rows * p.tokens; i += parts::kConsumers) {
      const int row = i % own.rows, token = i / own.rows;
      f(s.own[row][token], p.x[token * p.x_stride + own.first + row]);
    }
  };
  parts::Cursor at;
  uint32_t arrivals = 0;
  each_own([](float& here, const float& there) { here = there; });
  parts::consumer_sync();
  parts::hand_on(p, s, p.layer[0].attn_norm, own.first, own.rows);
  parts::grid_sync(p, arrivals);
#pragma unroll 1
  for (int layer = 0; layer < p.layers; ++layer) {
#pragma unroll 1
    for (int product = 0; product < parts::kProducts; ++product) {
      if (product == parts::kOut) {
        parts::attend<kDim>(p, s, layer);
        parts::grid_sync(p, arrivals);
      }
      run_product<kTokens>(p, s, layer, product, at);
      if (product == parts::kGate) continue;
      const bool last = product == parts::kDown && layer + 1 == p.layers;
      if (product == parts::kOut || product == parts::kDown) parts::consumer_sync();
      if (last) break;
      if (product == parts::kOut) parts::hand_on(p, s, p.layer[layer].mlp_norm, own.first, own.rows);
      if (product == parts::kDown) parts::hand_on(p, s, p.layer[layer + 1].attn_norm, own.first, own.rows);
      parts::grid_sync(p, arrivals);
    }
  }
  each_own([](const float& here, float& there) { there = here; });
  // The last block to come here leaves zeros; no block waits for arrivals any more.
  if (threadIdx.x == 0 && ptx::atomic_inc_acq_rel(&p.counters[1], gridDim.x - 1) == gridDim.x - 1)
    p.counters[0] = 0;
}

template <int kTokens, int kDim>
__global__ void __launch_bounds__(parts::kThreads, 1) decode_layers(const __grid_constant__ Params p) {
  extern __shared__ __align__(16) uint8_t raw[];
  auto& s = *reinterpret_cast<parts::Storage*>(raw);
  if (threadIdx.x == 0) s.ring.init(parts::kConsumerWarps, parts::kProducerWarps);
  __syncthreads();
  if (threadIdx.x >= parts::kConsumers) {
    ptx::setmaxnreg_decrease<40>();
    parts::stream_weights(p, s);
  } else {
    ptx::setmaxnreg_increase<208>();
    consume<kTokens, kDim>(p, s);
  }
}

constexpr int64_t kAlignment = 256;
int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

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
  // A split of fewer keys than the warps take at once helps nobody.
  const int64_t most =
      (args.plan->max_kv_len + 16 * parts::kConsumerWarps - 1) / (16 * parts::kConsumerWarps);
  const int64_t fit = s.blocks / std::max<int64_t>(s.T * s.Hkv, 1);
  if (s.T <= parts::kSplitTokens) s.splits = std::clamp<int64_t>(std::min(most, fit), 1, parts::kMostSplits);
  return s;
}

// The scratch of a step, piece by piece: place(bytes) gives an offset.
struct Scratch {
  int64_t qkv, scaled, squares, mixed, part_out, part_state, hidden, bytes = 0;

  explicit Scratch(const Shape& s) {
    const auto place = [&](int64_t wanted) {
      const int64_t at = bytes;
      bytes += aligned(wanted);
      return at;
    };
    qkv = place(s.T * (s.H + 2 * s.Hkv) * s.D * 4);
    scaled = place(s.T * s.C * 2);
    squares = place(s.T * s.blocks * 4);
    mixed = place(s.splits == 1 ? s.T * s.H * s.D * 2 : 0);
    part_out = place(s.splits == 1 ? 0 : s.T * s.H * s.splits * s.D * 4);
    part_state = place(s.splits == 1 ? 0 : s.T * s.H * s.splits * 8);
    hidden = place(s.T * s.F * 2);
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

template <int kTokens, int kDim>
void launch_layers(const Params& params, const Shape& shape, Context& context) {
  static_assert(sizeof(parts::Storage) <= 227 * 1024, "the shared memory of a block of sm_90");
  cuda::launch(decode_layers<kTokens, kDim>,
               {.grid = dim3(static_cast<unsigned>(shape.blocks)),
                .block = dim3(parts::kThreads),
                .smem = sizeof(parts::Storage),
                .stream = context.stream().get(),
                .cooperative = true},
               params);
}

template <int kTokens>
void launch_layers(const Params& params, const Shape& shape, Context& context) {
  if (shape.D == 64)
    launch_layers<kTokens, 64>(params, shape, context);
  else
    launch_layers<kTokens, 128>(params, shape, context);
}

}  // namespace

bool decoder_layers_persistent_sm90_supports(const DecoderLayersArgs& args, const Caps& caps) {
  if (!on_cuda(args, caps) || caps.arch != 90 || caps.activation != DType::bf16 || caps.sm_count <= 0)
    return false;
  if (args.layers.size() > parts::kMostLayers) return false;
  const Shape s = shape_of(args, caps);
  if (s.T == 0 || s.T > parts::kMostTokens || args.kv_len.dim(0) != s.T || args.plan->max_q_len != 1)
    return false;
  if ((s.D != 64 && s.D != 128) || args.cos_sin.dim(1) != s.D || s.H % s.Hkv != 0 || s.H / s.Hkv > 8)
    return false;
  const auto share = [&](int64_t rows) { return (rows + s.blocks - 1) / s.blocks; };
  if (share(s.C) > parts::kMostOwnRows || share(s.F) > parts::kMostPairRows ||
      share((s.H + 2 * s.Hkv) * s.D) > parts::kMostTiles * parts::kTileRows)
    return false;
  const DecoderLayer& first = args.layers.front();
  return std::all_of(args.layers.begin(), args.layers.end(), [&](const DecoderLayer& layer) {
    return weight_fits(*layer.qkv) && weight_fits(*layer.out) && weight_fits(*layer.gate_up) &&
           weight_fits(*layer.down) && layer.k_cache.dtype() == DType::bf16 &&
           layer.k_cache.stride(0) == first.k_cache.stride(0) &&
           layer.v_cache.stride(0) == first.v_cache.stride(0);
  });
}

double decoder_layers_persistent_sm90_us(const DecoderLayersArgs& args, const Caps& caps) {
  const Cost cost = decoder_layers_op().cost(args);
  return cuda_memory_us(caps, cost.bytes_read + cost.bytes_written) +
         2.0 * static_cast<double>(args.layers.size());
}

int64_t decoder_layers_persistent_sm90_scratch_bytes(const DecoderLayersArgs& args, const Caps& caps) {
  return Scratch(shape_of(args, caps)).bytes;
}

void decoder_layers_persistent_sm90(const DecoderLayersArgs& args, Context& context) {
  const Shape shape = shape_of(args, context.caps());
  const Scratch scratch(shape);
  const Arena::Scope scope(context.arena());
  auto* memory = static_cast<uint8_t*>(context.arena().take(DType::u8, {scratch.bytes}).data());
  const DecoderLayer& first = args.layers.front();
  Params p{};
  p.layers = static_cast<int>(args.layers.size());
  p.tokens = static_cast<int>(shape.T);
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
  p.slots = args.kv_slot.ptr<int64_t>();
  p.kv_len = args.kv_len.ptr<int32_t>();
  p.block_table = args.block_table.ptr<int32_t>();
  p.x_stride = args.x.stride(0);
  p.cos_sin_stride = args.cos_sin.stride(0);
  p.table_stride = args.block_table.stride(0);
  p.k_page_stride = first.k_cache.stride(0);
  p.v_page_stride = first.v_cache.stride(0);
  p.qkv = reinterpret_cast<float*>(memory + scratch.qkv);
  p.scaled = reinterpret_cast<Element*>(memory + scratch.scaled);
  p.squares = reinterpret_cast<float*>(memory + scratch.squares);
  p.mixed = reinterpret_cast<Element*>(memory + scratch.mixed);
  p.part_out = reinterpret_cast<float*>(memory + scratch.part_out);
  p.part_state = reinterpret_cast<float2*>(memory + scratch.part_state);
  p.hidden = reinterpret_cast<Element*>(memory + scratch.hidden);
  p.counters = context.stream().counters();
  for (size_t i = 0; i < args.layers.size(); ++i) {
    const DecoderLayer& layer = args.layers[i];
    p.layer[i] = {.qkv = start_of<const Element>(*layer.qkv),
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
  if (shape.T == 1)
    launch_layers<1>(p, shape, context);
  else if (shape.T <= 8)
    launch_layers<8>(p, shape, context);
  else
    launch_layers<16>(p, shape, context);
}

}  // namespace llamita
