#include "ops/sampling/device_sampling.h"

#include "ops/cuda.h"
#include "ops/sampling/integer_weight.h"
#include "ops/sampling/variants.h"
#include "ops/shape_check.h"

namespace llamita {

namespace {

void check(const DeviceSamplingArgs& args) {
  const int64_t R = args.logits.dim(0), V = args.logits.dim(1);
  check_shape("device_sampling", "logits", args.logits, DType::f32, {{"R", R}, {"V", V}});
  LLAMITA_CHECK(args.vocab_limit >= 1 && args.vocab_limit <= V && args.vocab_limit < kMaxVocab,
                "device_sampling: vocab_limit ", args.vocab_limit, " for ", args.logits.shape_text());
  check_shape("device_sampling", "rows", args.rows, DType::u8,
              {{"R", R}, {"bytes", sizeof(DeviceSamplingRow)}});
  check_shape("device_sampling", "tokens", args.tokens, DType::i32, {{"R", R}});
}

Cost cost(const DeviceSamplingArgs& args) {
  const auto elems = static_cast<double>(args.logits.elems());
  return {elems * sizeof(float), static_cast<double>(args.logits.dim(0)) * sizeof(int32_t), elems * 20};
}

#if LLAMITA_HAVE_CUDA
constexpr Variant<DeviceSamplingArgs> kVariants[] = {
    {.name = "cluster_select",
     .supports = on_cuda,
     .estimate_us = [](const DeviceSamplingArgs& args,
                       const Caps& caps) { return cuda_streaming_us(cost(args), caps); },
     .run = device_sampling_cluster_select},
};
#else
constexpr std::span<const Variant<DeviceSamplingArgs>> kVariants;  // there is no device
#endif

}  // namespace

void DeviceSamplingRows::clear() {
  rows.clear();
  entries.clear();
}

void DeviceSamplingRows::add(const SamplingRow& row) {
  DeviceSamplingRow out{.temperature = row.temperature,
                        .top_p = row.top_p,
                        .min_p = row.min_p,
                        .repetition_penalty = row.repetition_penalty,
                        .frequency_penalty = row.frequency_penalty,
                        .presence_penalty = row.presence_penalty,
                        .top_k = row.top_k,
                        .choice = row.choice,
                        .seed = row.seed,
                        .position = row.position};
  const auto end = [this] { return static_cast<int32_t>(entries.size()); };
  out.bias_begin = end();
  for (const auto& [token, value] : row.logit_bias) entries.push_back({token, value});
  out.bias_end = out.seen_begin = end();
  for (const SeenToken& seen : row.seen) entries.push_back({seen.token, static_cast<float>(seen.in_reply)});
  out.seen_end = end();
  rows.push_back(out);
}

const Op<DeviceSamplingArgs>& device_sampling_op() {
  static constexpr Op<DeviceSamplingArgs> kOp{"device_sampling", check, cost, kVariants};
  return kOp;
}

}  // namespace llamita
