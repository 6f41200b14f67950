// The skinny product with the epilogues of linear, plain and with a norm to prepare, and of mlp_in.
#pragma once

#include <type_traits>

#include "hw/cuda/device/ptx/reduce.cuh"
#include "ops/activation/device.cuh"
#include "ops/linear/skinny_sm90.cuh"

namespace llamita::skinny_sm90_detail {

__device__ __forceinline__ float element(const float4& v, int i) {
  return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

// Gated: pairs are gate and up of an output.
template <class Element, bool kGated>
struct RowsEpilogue {
  static constexpr bool kPairs = kGated;
  static constexpr int kReadsAhead = 0;
  struct Reads {};

  const float* bias;
  const float* bias_up;
  const void* residual;
  void* out;
  int64_t residual_stride, out_stride;
  int rows;
  SigmoidForm activation;  // when gated or activated
  bool activated;          // not gated: outputs pass through it
  bool f32_out;
  bool vectors;   // four outputs may be read and written at a time
  bool in_place;  // the residual is the output, and f32

  __device__ __forceinline__ float act(float x) const {
    return kGated ? device::activate_gate(activation, x) : device::activate(activation, x);
  }

  __device__ __forceinline__ void put(int row, int token, float4 v, float4 up, Reads) const {
    if (row >= rows) return;
    if (!vectors || row + 4 > rows) {
#pragma unroll 1
      for (int i = 0; i < min(4, rows - row); ++i) put_one(row + i, token, element(v, i), element(up, i));
      return;
    }
    if (bias != nullptr) add(v, bias + row);
    if constexpr (kGated) {
      if (bias_up != nullptr) add(up, bias_up + row);
      v = {act(v.x) * up.x, act(v.y) * up.y, act(v.z) * up.z, act(v.w) * up.w};
    } else if (activated) {
      v = {act(v.x), act(v.y), act(v.z), act(v.w)};
    }
    const int64_t at = token * out_stride + row;
    if (f32_out) {
      float4* to = reinterpret_cast<float4*>(static_cast<float*>(out) + at);
      if (in_place) return ptx::reduce_add_float4(to, v);
      if (residual != nullptr) add(v, static_cast<const float*>(residual) + token * residual_stride + row);
      *to = v;
      return;
    }
    if (residual != nullptr) {
      const uint2 bits = *reinterpret_cast<const uint2*>(static_cast<const Element*>(residual) +
                                                         token * residual_stride + row);
      const float2 low = device::unpack2<Element>(bits.x), high = device::unpack2<Element>(bits.y);
      v.x += low.x, v.y += low.y, v.z += high.x, v.w += high.y;
    }
    *reinterpret_cast<uint2*>(static_cast<Element*>(out) + at) =
        make_uint2(device::pack2<Element>(v.x, v.y), device::pack2<Element>(v.z, v.w));
  }

 private:
  static __device__ __forceinline__ void add(float4& v, const float* from) {
    const float4 more = *reinterpret_cast<const float4*>(from);
    v.x += more.x, v.y += more.y, v.z += more.z, v.w += more.w;
  }

  __device__ __forceinline__ void put_one(int row, int token, float value, float up) const {
    if (bias != nullptr) value += bias[row];
    if constexpr (kGated)
      value = act(value) * (bias_up != nullptr ? up + bias_up[row] : up);
    else if (activated)
      value = act(value);
    const DType dtype = f32_out                                  ? DType::f32
                        : std::is_same_v<Element, __nv_bfloat16> ? DType::bf16
                                                                 : DType::f16;
    if (residual != nullptr) value += device::load_float(residual, dtype, token * residual_stride + row);
    device::store_float(out, dtype, token * out_stride + row, value);
  }
};

// f32 outputs, and the first half of the norm that follows (norm/prepared_norm.h): that needs the sum with
// the residual, so that memory cannot add it. An epilogue of its own, because what a product does not run
// should not be in its code. Rows are whole runs.
template <class Element>
struct PreparingEpilogue {
  static constexpr bool kPairs = false;
  static constexpr int kReadsAhead = 2;
  struct Reads {
    float4 residual, gain;
  };

  const float* bias;
  const float* residual;
  float* out;
  int64_t residual_stride, out_stride;
  int rows, tokens;
  const float* gain;
  Element* scaled;  // (tokens, rows)
  float* squares;   // (runs, tokens)

  __device__ __forceinline__ Reads read(int row, int token) const {
    if (row >= rows) return {};
    return {residual == nullptr ? float4{} : four(residual + token * residual_stride + row),
            four(gain + row)};
  }

  // Half a warp has a run of 64 rows of a token, four each lane.
  __device__ __forceinline__ void put(int row, int token, float4 v, float4, const Reads& reads) const {
    if (row >= rows) return;
    if (bias != nullptr) v = plus(v, four(bias + row));
    if (residual != nullptr) v = plus(v, reads.residual);
    *reinterpret_cast<uint2*>(scaled + int64_t{token} * rows + row) =
        make_uint2(device::pack2<Element>(share(v.x * reads.gain.x), share(v.y * reads.gain.y)),
                   device::pack2<Element>(share(v.z * reads.gain.z), share(v.w * reads.gain.w)));
    *reinterpret_cast<float4*>(out + token * out_stride + row) = v;
    float sum = v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
    const uint32_t lanes = 0xFFFFu << (threadIdx.x & 16);
#pragma unroll
    for (int apart = 8; apart > 0; apart /= 2) sum += __shfl_xor_sync(lanes, sum, apart);
    if (row % kNormRun == 0) squares[row / kNormRun * tokens + token] = sum;
  }

 private:
  // One element that f16 has no room for must not make a token infinite.
  static __device__ __forceinline__ float share(float x) {
    if constexpr (!std::is_same_v<Element, __half>) return x * norm_share(DType::bf16);
    constexpr float kMost = 65504;
    return fminf(fmaxf(x * norm_share(DType::f16), -kMost), kMost);
  }
  static __device__ __forceinline__ float4 four(const float* from) {
    return *reinterpret_cast<const float4*>(from);
  }
  static __device__ __forceinline__ float4 plus(float4 a, float4 b) {
    return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w};
  }
};

template <class Element, int kTokens, int kBlocks>
void launch_preparing(const SkinnySm90& g, const SkinnyPlan& plan, Context& context) {
  using Epilogue = PreparingEpilogue<Element>;
  const Epilogue epilogue{.bias = g.bias,
                          .residual = static_cast<const float*>(g.residual),
                          .out = static_cast<float*>(g.out),
                          .residual_stride = g.residual_stride,
                          .out_stride = g.out_stride,
                          .rows = g.N,
                          .tokens = g.M,
                          .gain = g.next_gain,
                          .scaled = static_cast<Element*>(g.next_scaled),
                          .squares = g.next_squares};
  using Kernel = Config<Element, kTokens, kBlocks, Epilogue>;
  launch<Kernel>({g.x, g.w, g.w, g.element, g.M, g.N, g.K, g.x_stride, g.norm},
                 Layout{.box_rows = Kernel::kOutRows}, epilogue, plan, context);
}

template <class Element, int kTokens, int kBlocks, bool kGated>
void launch_rows(const SkinnySm90& g, const SkinnyPlan& plan, Context& context) {
  using Epilogue = RowsEpilogue<Element, kGated>;
  const bool f32_out = g.out_dtype == DType::f32;
  const auto in_vectors = [](const void* data, int64_t stride, int bytes) {
    return reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(4 * bytes) == 0 && stride % 4 == 0;
  };
  const int out_bytes = f32_out ? 4 : 2;
  const Epilogue epilogue{.bias = g.bias,
                          .bias_up = g.bias_up,
                          .residual = g.residual,
                          .out = g.out,
                          .residual_stride = g.residual_stride,
                          .out_stride = g.out_stride,
                          .rows = g.N,
                          .activation = g.activation ? sigmoid_form(*g.activation) : SigmoidForm{},
                          .activated = g.activation.has_value(),
                          .f32_out = f32_out,
                          .vectors = in_vectors(g.out, g.out_stride, out_bytes) && in_vectors(g.bias, 0, 4) &&
                                     in_vectors(g.bias_up, 0, 4) &&
                                     in_vectors(g.residual, g.residual_stride, out_bytes),
                          .in_place = f32_out && g.residual == g.out && g.residual_stride == g.out_stride};
  using Kernel = Config<Element, kTokens, kBlocks, Epilogue>;
  launch<Kernel>({g.x, g.w, kGated ? g.w_up : g.w, g.element, g.M, g.N, g.K, g.x_stride, g.norm},
                 Layout{.box_rows = Kernel::kOutRows}, epilogue, plan, context);
}

template <class Element>
void run(const SkinnySm90& g, const SkinnyPlan& plan, Context& context) {
  with_tile(plan, [&]<int kTokens, int kBlocks>() {
    if (g.prepares) return launch_preparing<Element, kTokens, kBlocks>(g, plan, context);
    if (g.w_up != nullptr) return launch_rows<Element, kTokens, kBlocks, true>(g, plan, context);
    launch_rows<Element, kTokens, kBlocks, false>(g, plan, context);
  });
}

}  // namespace llamita::skinny_sm90_detail
