// sampling for a caller that wants its tokens on the host at once: a copy of the logits goes through
// device_sampling. Probabilities are worked out on the host, from the rows that ask for them.
#include "ops/sampling/variants.h"

#if LLAMITA_HAVE_CUDA

#include "hw/cuda/memory.h"
#include "hw/cuda/stream.h"
#include "ops/sampling/steps.h"

namespace llamita {

namespace {

// Values of the host as (n, sizeof) bytes on the device; undefined when there are none.
template <class T>
Tensor to_device(const std::vector<T>& values, Context& context) {
  if (values.empty()) return {};
  const Tensor out =
      context.arena().take(DType::u8, {static_cast<int64_t>(values.size()), static_cast<int64_t>(sizeof(T))});
  cuda::copy_async(out.data(), values.data(), values.size() * sizeof(T), context.stream());
  return out;
}

Tensor late_token_tensor(const std::vector<int32_t>& tokens, Context& context) {
  const Tensor bytes = to_device(tokens, context);
  return bytes.defined() ? Tensor(bytes.data(), DType::i32, {bytes.dim(0)}, bytes.device()) : Tensor();
}

}  // namespace

int64_t sampling_cuda_round_trip_scratch(const SamplingArgs& args, const Caps&) {
  const int64_t R = args.logits.dim(0);
  // A row, its late token and the chosen one; biases and seen tokens are few, and the arena grows
  constexpr int64_t kParameters = sizeof(DeviceSamplingRow) + 2 * sizeof(int32_t);
  return args.logits.bytes() + R * kParameters + 256;
}

void sampling_cuda_round_trip(const SamplingArgs& args, Context& context) {
  const int64_t R = args.logits.dim(0), V = args.logits.dim(1);
  if (R == 0) return;
  const Arena::Scope scope(context.arena());
  DeviceSamplingRows upload;
  std::vector<int32_t> late_tokens;
  for (const SamplingRow& row : args.rows) {
    upload.add(row);
    if (row.late_token < 0) continue;
    upload.rows.back().late = static_cast<int32_t>(late_tokens.size());
    late_tokens.push_back(row.late_token);
  }
  const Tensor logits = context.arena().take(DType::f32, {R, V});
  cuda::copy_async(logits.data(), args.logits.data(), static_cast<size_t>(logits.bytes()), context.stream());
  const Tensor tokens = context.arena().take(DType::i32, {R});
  device_sampling({.logits = logits,
                   .vocab_limit = args.vocab_limit,
                   .rows = to_device(upload.rows, context),
                   .entries = to_device(upload.entries, context),
                   .token_ids = late_token_tensor(late_tokens, context),
                   .tokens = tokens},
                  context);
  std::vector<int32_t> chosen(static_cast<size_t>(R));
  cuda::copy_async(chosen.data(), tokens.data(), chosen.size() * sizeof(int32_t), context.stream());
  context.stream().synchronize();
  std::vector<float> row(static_cast<size_t>(args.vocab_limit));
  for (size_t r = 0; r < chosen.size(); ++r) {
    args.out[r] = {};
    args.out[r].token = chosen[r];
    if (chosen[r] < 0 || args.rows[r].logprobs < 0) continue;
    const float* raw = static_cast<const float*>(args.logits.data()) + static_cast<int64_t>(r) * V;
    cuda::copy_async(row.data(), raw, row.size() * sizeof(float), context.stream());
    context.stream().synchronize();
    sampling_steps::report_probabilities(row, args.rows[r].logprobs, args.out[r]);
  }
}

}  // namespace llamita

#endif
