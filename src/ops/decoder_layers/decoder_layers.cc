#include "ops/decoder_layers/decoder_layers.h"

#include "ops/cuda.h"
#include "ops/decoder_layers/variants.h"
#include "ops/shape_check.h"

namespace llamita {

namespace {

void check_weight(const char* what, const quant::Weight* weight, int64_t rows, int64_t cols) {
  LLAMITA_CHECK(weight != nullptr && weight->rows() == rows && weight->cols == cols, "decoder_layers: ", what,
                " must be (", rows, ", ", cols, ")");
}

void check(const DecoderLayersArgs& args) {
  LLAMITA_CHECK(!args.layers.empty() && args.plan != nullptr && args.heads > 0,
                "decoder_layers: no layers, no plan or no heads");
  const int64_t T = args.x.dim(0), C = args.x.dim(1), B = args.kv_len.dim(0), H = args.heads;
  const Tensor& cache = args.layers.front().k_cache;
  const int64_t pages = cache.dim(0), Hkv = cache.dim(1), D = cache.dim(3);
  const int64_t F = args.layers.front().down->cols;
  check_shape("decoder_layers", "x", args.x, DType::f32, {{"T", T}, {"C", C}});
  check_shape("decoder_layers", "cos_sin", args.cos_sin, DType::f32, {{"T", T}, {"R", args.cos_sin.dim(1)}});
  check_shape("decoder_layers", "kv_slot", args.kv_slot, DType::i64, {{"T", T}});
  check_shape("decoder_layers", "q_start", args.q_start, DType::i32, {{"B+1", B + 1}});
  check_shape("decoder_layers", "kv_len", args.kv_len, DType::i32, {{"B", B}});
  check_shape("decoder_layers", "block_table", args.block_table, DType::i32,
              {{"B", B}, {"max_blocks", args.block_table.dim(1)}});
  for (const DecoderLayer& layer : args.layers) {
    check_shape("decoder_layers", "attn_norm", layer.attn_norm, DType::f32, {{"C", C}});
    check_shape("decoder_layers", "mlp_norm", layer.mlp_norm, DType::f32, {{"C", C}});
    check_weight("qkv", layer.qkv, (H + 2 * Hkv) * D, C);
    check_optional_shape("decoder_layers", "qkv_bias", layer.qkv_bias, DType::f32,
                         {{"H*D + 2*Hkv*D", (H + 2 * Hkv) * D}});
    LLAMITA_CHECK(layer.q_norm.defined() == layer.k_norm.defined(),
                  "decoder_layers: q_norm and k_norm belong together");
    check_optional_shape("decoder_layers", "q_norm", layer.q_norm, DType::f32, {{"D", D}});
    check_optional_shape("decoder_layers", "k_norm", layer.k_norm, DType::f32, {{"D", D}});
    check_weight("out", layer.out, C, H * D);
    check_weight("gate_up", layer.gate_up, 2 * F, C);
    check_weight("down", layer.down, C, F);
    for (const Tensor& side : {layer.k_cache, layer.v_cache})
      check_kv_side("decoder_layers", side, cache.dtype(), pages, Hkv, D);
  }
}

// The keys of a step lie on the device; the plan's bound stands for them.
Cost cost(const DecoderLayersArgs& args) {
  const auto T = static_cast<double>(args.x.dim(0)), B = static_cast<double>(args.kv_len.dim(0));
  Cost sum{.bytes_read = 4 * static_cast<double>(args.x.elems()),
           .bytes_written = 4 * static_cast<double>(args.x.elems())};
  for (const DecoderLayer& layer : args.layers) {
    const int64_t token_bytes =
        2 * layer.k_cache.dim(1) * KvFormat{layer.k_cache.dtype()}.row_bytes(layer.k_cache.dim(3));
    const auto H = static_cast<double>(args.heads), D = static_cast<double>(layer.k_cache.dim(3));
    const auto keys = static_cast<double>(args.plan->max_kv_len);
    for (const quant::Weight* weight : {layer.qkv, layer.out, layer.gate_up, layer.down}) {
      sum.bytes_read += static_cast<double>(weight->bytes());
      sum.flops += 2 * T * static_cast<double>(weight->rows()) * static_cast<double>(weight->cols);
    }
    sum.bytes_read += B * keys * static_cast<double>(token_bytes);
    sum.bytes_written += T * static_cast<double>(token_bytes);
    sum.flops += 4 * T * keys * H * D;
  }
  return sum;
}

#if LLAMITA_HAVE_CUDA
constexpr std::string_view kFused[] = {"attn_in", "attention", "linear",   "mlp_in",
                                       "norm",    "rope",      "kv_write", "activation"};
#endif

constexpr Variant<DecoderLayersArgs> kVariants[] = {
#if LLAMITA_HAVE_CUDA
    {.name = "persistent_sm90",
     .supports = decoder_layers_persistent_sm90_supports,
     .estimate_us = decoder_layers_persistent_sm90_us,
     .run = decoder_layers_persistent_sm90,
     .fuses = kFused},
#endif
    {.name = "composition",
     .supports = [](const DecoderLayersArgs&, const Caps&) { return true; },
     .estimate_us =
         [](const DecoderLayersArgs& args, const Caps&) {
           // Of the chain that the model runs in this one's place, whose blocks share norms. Of one token on
           // an H100, where there is a choice: what layers of 1B, 3B and 8B models took at 192 to 4096 keys
           // (bench_decode), within 1.5 us a layer; Qwen2.5-3B's take 3 us more.
           return (cost(args).bytes_read + cost(args).bytes_written) / 3.03e6 +
                  static_cast<double>(args.layers.size()) * (8.5 + 0.0008 * args.plan->max_kv_len);
         },
     .run = decoder_layers_composition,
     .composed = true},
};

}  // namespace

const Op<DecoderLayersArgs>& decoder_layers_op() {
  static constexpr Op<DecoderLayersArgs> kOp{"decoder_layers", check, cost, kVariants};
  return kOp;
}

bool decoder_layers_fused(const DecoderLayersArgs& args, const Context& context) {
  return !choose(decoder_layers_op(), args, context).composed;
}

}  // namespace llamita
