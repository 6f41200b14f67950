#include "ops/sampling/sampling.h"

#include <algorithm>

#include "ops/cuda.h"
#include "ops/sampling/integer_weight.h"
#include "ops/sampling/variants.h"

namespace llamita {

namespace {

void check(const SamplingArgs& args) {
  const Tensor& logits = args.logits;
  LLAMITA_CHECK(logits.defined() && logits.rank() == 2 && logits.dtype() == DType::f32 && logits.dense(),
                "sampling: logits must be dense F32 (R, V), got ", logits.shape_text());
  LLAMITA_CHECK(args.vocab_limit >= 1 && args.vocab_limit <= logits.dim(1) && args.vocab_limit < kMaxVocab,
                "sampling: vocab_limit ", args.vocab_limit, " for ", logits.shape_text());
  if (logits.shape_only()) return;
  const auto rows = static_cast<size_t>(logits.dim(0));
  LLAMITA_CHECK(args.rows.size() == rows && args.out.size() == rows, "sampling: ", args.rows.size(),
                " parameters and ", args.out.size(), " results for ", logits.shape_text());
  for (const SamplingRow& row : args.rows) {
    LLAMITA_CHECK(row.temperature >= 0 && row.top_k >= 0 && row.top_p > 0 && row.top_p <= 1 &&
                      row.min_p >= 0 && row.min_p <= 1 && row.repetition_penalty > 0,
                  "sampling: temperature ", row.temperature, ", top_k ", row.top_k, ", top_p ", row.top_p,
                  ", min_p ", row.min_p, ", repetition_penalty ", row.repetition_penalty);
    const size_t words = (static_cast<size_t>(args.vocab_limit) + 31) / 32;
    LLAMITA_CHECK(row.allowed.empty() || row.allowed.size() >= words, "sampling: ", row.allowed.size(),
                  " words of allowed tokens for ", args.vocab_limit);
  }
}

Cost cost(const SamplingArgs& args) {
  const auto elems = static_cast<double>(args.logits.elems());
  // A weight is about 20 integer operations.
  return {elems * sizeof(float), static_cast<double>(args.logits.dim(0)) * sizeof(int32_t), elems * 20};
}

bool on_cpu(const SamplingArgs&, const Caps& caps) { return caps.device == DeviceKind::cpu; }

// Nanoseconds a token of a row, from the passes over V that each does: a comparison sort against a few scans.
double reference_us(const SamplingArgs& args, const Caps&) {
  return static_cast<double>(args.logits.elems()) * 0.1;
}
double select_us(const SamplingArgs& args, const Caps& caps) {
  const auto rows = static_cast<double>(args.logits.dim(0));
  const double parallel = std::max(1.0, std::min<double>(caps.threads, rows));
  return static_cast<double>(args.logits.elems()) * 0.01 / parallel;
}

#if LLAMITA_HAVE_CUDA
// Rows that allow some tokens only are sampled on the host, from a copy of the logits.
bool on_cuda_without_masks(const SamplingArgs& args, const Caps& caps) {
  const auto allows_all = [](const SamplingRow& row) { return row.allowed.empty(); };
  return on_cuda(args, caps) && std::all_of(args.rows.begin(), args.rows.end(), allows_all);
}
#endif

constexpr Variant<SamplingArgs> kVariants[] = {
#if LLAMITA_HAVE_CUDA
    {"cuda_round_trip", on_cuda_without_masks,
     [](const SamplingArgs& args, const Caps& caps) { return cuda_streaming_us(cost(args), caps); },
     sampling_cuda_round_trip, false, sampling_cuda_round_trip_scratch},
#endif
    {"reference", on_cpu, reference_us, sampling_reference},
    {"cpu_select", on_cpu, select_us, sampling_cpu_select, false, sampling_cpu_select_scratch},
};

constexpr Op<SamplingArgs> kOp = {"sampling", check, cost, kVariants};

}  // namespace

const Op<SamplingArgs>& sampling_op() { return kOp; }

}  // namespace llamita
