#include "nn/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/cat.h"
#include "base/thread_pool.h"
#include "llamita/error.h"
#include "ops/gather/gather.h"
#include "ops/rope/rope.h"

namespace llamita {

namespace {

constexpr double kMostTableElems = 1 << 27;  // half a GiB of cos and sin

std::vector<double> plain_frequencies(double theta, int rotary_dim) {
  std::vector<double> out(static_cast<size_t>(rotary_dim / 2));
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = std::pow(theta, -2.0 * static_cast<double>(i) / rotary_dim);
  return out;
}

// Wavelengths longer than the trained text are divided, short ones stay, those between are blended.
void scale_llama3(const RopeConfig& config, std::vector<double>& freq) {
  const double trained = config.original_positions;
  const double long_wave = trained / config.low_freq_factor, short_wave = trained / config.high_freq_factor;
  for (double& f : freq) {
    const double wave = 2 * std::numbers::pi / f;
    if (wave < short_wave) continue;
    if (wave > long_wave) {
      f /= config.factor;
    } else {
      const double keep =
          (trained / wave - config.low_freq_factor) / (config.high_freq_factor - config.low_freq_factor);
      f = (1 - keep) * f / config.factor + keep * f;
    }
  }
}

// YaRN: dimensions that turn often within the trained text keep their frequency, those that turn less than
// once are interpolated, with a linear ramp between.
void scale_yarn(const RopeConfig& config, std::vector<double>& freq) {
  const int dim = config.rotary_dim;
  const auto dimension_of_turns = [&](double turns) {
    return dim * std::log(config.original_positions / (turns * 2 * std::numbers::pi)) /
           (2 * std::log(config.theta));
  };
  double low = dimension_of_turns(config.beta_fast), high = dimension_of_turns(config.beta_slow);
  if (config.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1.0);
  if (low == high) high += 0.001;
  for (size_t i = 0; i < freq.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    const double keep = (1 - ramp) * config.extrapolation;
    freq[i] = freq[i] / config.factor * (1 - keep) + freq[i] * keep;
  }
}

double yarn_attention_factor(const RopeConfig& config) {
  if (config.attention_factor > 0) return config.attention_factor;
  if (config.extrapolation == 0) return 1.0;  // plain interpolation needs no correction
  const auto of = [&](double mscale) {
    return config.factor <= 1 ? 1.0 : 0.1 * mscale * std::log(config.factor) + 1;
  };
  if (config.mscale > 0 && config.mscale_all_dim > 0) return of(config.mscale) / of(config.mscale_all_dim);
  return of(1.0);
}

std::vector<float> rounded(const std::vector<double>& freq) { return {freq.begin(), freq.end()}; }

// The frequencies of a text of `length` tokens under dynamic NTK scaling.
std::vector<float> dynamic_frequencies(const RopeConfig& config, int max_positions, double length) {
  const double dim = config.rotary_dim;
  const double stretch = config.factor * length / max_positions - (config.factor - 1);
  return rounded(plain_frequencies(config.theta * std::pow(stretch, dim / (dim - 2)), config.rotary_dim));
}

}  // namespace

Rope::Rope(const RopeConfig& config, int max_positions) : config_(config), max_positions_(max_positions) {
  std::vector<double> freq = plain_frequencies(config.theta, config.rotary_dim);
  double attention_factor = 1.0;
  if (config.scaling == RopeScaling::linear) {
    for (double& f : freq) f /= config.factor;
  } else if (config.scaling == RopeScaling::llama3) {
    scale_llama3(config, freq);
  } else if (config.scaling == RopeScaling::yarn) {
    scale_yarn(config, freq);
    attention_factor = yarn_attention_factor(config);
  }
  scale_ = static_cast<float>(attention_factor * config.attention_multiplier);
  for (size_t i = 0; i < config.freq_factors.size(); ++i)
    freq[i] /= static_cast<double>(config.freq_factors[i]);
  inv_freq_ = rounded(freq);
}

Rope::Rope(const RopeConfig& config, int max_positions, WeightLoader& weights) : Rope(config, max_positions) {
  const auto half = static_cast<int64_t>(inv_freq_.size());
  placed_inv_freq_ = weights.computed(inv_freq_, 1, half);
  if (config_.scaling != RopeScaling::dynamic || !weights.placement().on_gpu()) return;
  // Each position beyond the trained length has frequencies of its own, which no kernel derives: a GPU looks
  // positions up.
  const double positions = std::ceil(config_.factor * max_positions_);
  if (positions * static_cast<double>(half) > kMostTableElems)
    throw Error(cat(weights.files().path(), ": dynamic rope scaling to ", positions,
                    " positions needs too large a table on a GPU: take --device cpu"));
  const int rows = static_cast<int>(positions);
  every_position_ = weights.computed(tabulate(rows), rows, 2 * half);
}

// cos and sin of the positions from 0 on, as cos_sin() computes them on the CPU.
std::vector<float> Rope::tabulate(int positions) const {
  std::vector<int32_t> all(static_cast<size_t>(positions));
  for (int32_t p = 0; p < positions; ++p) all[static_cast<size_t>(p)] = p;
  Rope on_cpu(config_, max_positions_);
  ThreadPool pool(1);
  Arena arena(all.size() * 2 * inv_freq_.size() * sizeof(float) + 4096);
  Context context(pool, arena, {});
  const Tensor table = on_cpu.cos_sin(Tensor::of(all.data(), {1, positions}), context);
  return {table.ptr<float>(), table.ptr<float>() + table.elems()};
}

Tensor Rope::cos_sin(const Tensor& positions, Context& context) const {
  LLAMITA_CHECK(positions.rank() == 2 && positions.dim(0) == 1, "rope takes (1, T) positions, got ",
                positions.shape_text());
  const int64_t tokens = positions.dim(1);
  const auto half = static_cast<int64_t>(inv_freq_.size());
  const Tensor out = context.arena().take(DType::f32, {tokens, 2 * half});
  const Tensor flat = positions.view({tokens});
  if (every_position_.values.defined()) {
    gather({.x = every_position_.values, .rows = flat, .out = out}, context);
    return out;
  }
  const Tensor inv_freq = placed_inv_freq_.values.defined() ? placed_inv_freq_.values.view({half})
                                                            : Tensor::of(inv_freq_.data(), {half});
  rope_table({.positions = flat, .inv_freq = inv_freq, .scale = scale_, .out = out}, context);
  if (config_.scaling != RopeScaling::dynamic || context.dry_run()) return out;
  for (int64_t t = 0; t < tokens; ++t) {
    const int32_t position = flat.ptr<int32_t>()[t];
    if (position < max_positions_) continue;
    const std::vector<float> freq = dynamic_frequencies(config_, max_positions_, position + 1.0);
    rope_table({.positions = flat.slice(t, t + 1),
                .inv_freq = Tensor::of(freq.data(), {half}),
                .scale = scale_,
                .out = out.slice(t, t + 1)},
               context);
  }
  return out;
}

}  // namespace llamita
