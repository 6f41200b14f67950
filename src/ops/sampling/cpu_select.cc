// cpu_select: sampling without sorting the vocabulary. A row is a few passes of V: find the best token, turn
// logits into integer weights and drop those that weigh nothing, add, pick. top-k keeps a heap of k; top-p
// first drops every token so light that all such tokens together could be spared, then halves what is left
// with nth_element until the border is found: O(V) in all. Rows are spread over the threads.
#include <algorithm>

#include "ops/sampling/philox.h"
#include "ops/sampling/steps.h"
#include "ops/sampling/variants.h"

namespace llamita {

namespace {

// One thread's scratch, V elements each.
struct Scratch {
  uint64_t* weights;
  int32_t* tokens;
  int32_t* order;
  float* logits;
};

int64_t scratch_bytes_per_thread(int64_t vocab) {
  constexpr int64_t kToken = sizeof(uint64_t) + 2 * sizeof(int32_t) + sizeof(float);
  return (vocab * kToken + 63) / 64 * 64;  // no two threads write one cache line
}

// Tokens that may be chosen, by id, with their weights, all above 0.
struct Candidates {
  int32_t* tokens;
  uint64_t* weights;
  int count = 0;

  void add(int32_t token, uint64_t weight) {
    tokens[count] = token;
    weights[count++] = weight;
  }
  uint64_t total() const {
    uint64_t sum = 0;
    for (int i = 0; i < count; ++i) sum += weights[i];
    return sum;
  }
  template <class Keep>
  void keep_if(const Keep& keep) {
    int kept = 0;
    for (int i = 0; i < count; ++i) {
      tokens[kept] = tokens[i];
      weights[kept] = weights[i];
      kept += keep(i) ? 1 : 0;
    }
    count = kept;
  }
};

Candidates weigh(const SamplingRow& row, std::span<const float> logits, float best, const Scratch& scratch) {
  const float scale = kLog2E / row.temperature;
  Candidates candidates{scratch.tokens, scratch.weights};
  const auto weigh_one = [&](int32_t token) {
    const uint64_t weight = integer_weight(best - logits[static_cast<size_t>(token)], scale);
    if (weight > 0) candidates.add(token, weight);
  };
  if (row.top_k > 0 && static_cast<size_t>(row.top_k) < logits.size()) {
    std::vector<int32_t> kept = sampling_steps::best_tokens(logits, row.top_k);
    std::sort(kept.begin(), kept.end());
    for (const int32_t token : kept) weigh_one(token);
  } else {
    for (int32_t token = 0; token < static_cast<int32_t>(logits.size()); ++token) weigh_one(token);
  }
  return candidates;
}

// The worst token that top-p keeps, as an index of `candidates`.
int top_p_border(const Candidates& candidates, const float* logits, uint64_t wanted, int32_t* order) {
  const uint64_t total = candidates.total();
  const uint64_t spare = (total - wanted) / static_cast<uint64_t>(candidates.count);
  int count = 0;
  for (int i = 0; i < candidates.count; ++i) {
    if (candidates.weights[i] > spare) order[count++] = i;
  }
  const auto before = [&](int32_t a, int32_t b) {
    return sampling_steps::better(logits, candidates.tokens[a], candidates.tokens[b]);
  };
  int begin = 0, end = count;  // the border lies in order[begin, end); all before it are kept
  while (end - begin > 1) {
    const int middle = begin + (end - begin) / 2;
    std::nth_element(order + begin, order + middle, order + end, before);
    uint64_t mass = 0;
    for (int i = begin; i < middle; ++i) mass += candidates.weights[order[i]];
    if (mass >= wanted) {
      end = middle;
    } else {
      wanted -= mass;
      begin = middle;
    }
  }
  return order[begin];
}

int32_t pick(const Candidates& candidates, uint64_t random) {
  uint64_t rest = draw_below(candidates.total(), random);
  int i = 0;
  while (rest >= candidates.weights[i]) rest -= candidates.weights[i++];
  return candidates.tokens[i];
}

int32_t choose(const SamplingRow& row, std::span<const float> raw, const Scratch& scratch) {
  std::span<const float> logits = raw;
  if (sampling_steps::adjusts(row)) {
    std::copy(raw.begin(), raw.end(), scratch.logits);
    sampling_steps::adjust(row, {scratch.logits, raw.size()});
    logits = {scratch.logits, raw.size()};
  }
  const int32_t best = sampling_steps::best_token(logits);
  if (best < 0 || row.temperature == 0.0f) return best;
  Candidates candidates = weigh(row, logits, logits[static_cast<size_t>(best)], scratch);
  if (row.top_p < 1.0f) {
    const uint64_t wanted = mass_to_keep(row.top_p, candidates.total());
    const int border = top_p_border(candidates, logits.data(), wanted, scratch.order);
    const int32_t last = candidates.tokens[border];
    candidates.keep_if(
        [&](int i) { return !sampling_steps::better(logits.data(), last, candidates.tokens[i]); });
  }
  if (row.min_p > 0.0f) {
    const uint64_t least = weight_to_keep(row.min_p);
    candidates.keep_if([&](int i) { return candidates.weights[i] >= least; });
  }
  return pick(candidates, random_bits(row.seed, row.choice, row.position));
}

}  // namespace

int64_t sampling_cpu_select_scratch(const SamplingArgs& args, const Caps& caps) {
  return std::max(caps.threads, 1) * scratch_bytes_per_thread(args.vocab_limit);
}

void sampling_cpu_select(const SamplingArgs& args, Context& context) {
  const int64_t vocab = args.vocab_limit;
  const auto rows = static_cast<int>(args.rows.size());
  ThreadPool& pool = context.pool();
  const int threads = std::min({pool.threads(), std::max(context.caps().threads, 1), rows});
  const Tensor memory =
      context.arena().take(DType::u8, {std::max(threads, 1) * scratch_bytes_per_thread(vocab)});
  pool.run([&](int thread) {
    if (thread >= threads) return;
    uint8_t* base = memory.ptr<uint8_t>() + thread * scratch_bytes_per_thread(vocab);
    auto* weights = reinterpret_cast<uint64_t*>(base);
    auto* tokens = reinterpret_cast<int32_t*>(weights + vocab);
    const Scratch scratch{weights, tokens, tokens + vocab, reinterpret_cast<float*>(tokens + 2 * vocab)};
    for (int r = thread; r < rows; r += threads) {
      const SamplingRow& row = args.rows[static_cast<size_t>(r)];
      SampledToken& out = args.out[static_cast<size_t>(r)];
      const float* logits = args.logits.ptr<float>() + r * args.logits.dim(1);
      const std::span<const float> allowed(logits, static_cast<size_t>(vocab));
      out = {};
      out.token = choose(row, allowed, scratch);
      if (out.token >= 0 && row.logprobs >= 0) {
        sampling_steps::report_probabilities(allowed, row.logprobs, out);
      }
    }
  });
}

}  // namespace llamita
