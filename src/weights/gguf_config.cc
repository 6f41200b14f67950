#include "weights/gguf_config.h"

#include <algorithm>
#include <optional>
#include <string>

#include "base/cat.h"
#include "quant/unpack.h"
#include "weights/limits.h"

namespace llamita {

namespace {

// Keys below the architecture's own prefix.
class Keys {
 public:
  explicit Keys(const TensorFiles& files) : file_(files.gguf()), prefix_(files.architecture() + ".") {}

  int get_int(std::string_view key, int64_t min, int64_t max, std::optional<int> fallback = {}) const {
    const std::string name = cat(prefix_, key);
    const std::string what = cat(file_.path(), ": ", name);
    if (const auto* each = file_.find(name);
        each != nullptr && std::holds_alternative<std::vector<int64_t>>(*each)) {
      const auto& list = std::get<std::vector<int64_t>>(*each);  // one a layer: only alike ones are supported
      if (list.empty() || std::adjacent_find(list.begin(), list.end(), std::not_equal_to<>()) != list.end()) {
        throw Error(cat(what, " differs between layers, which is not supported"));
      }
      return limits::checked(list.front(), min, max, what);
    }
    const auto value = file_.get_int(name);
    if (!value && !fallback) throw Error(cat(file_.path(), " lacks the key ", name));
    return value ? limits::checked(*value, min, max, what) : *fallback;
  }
  double get_double(std::string_view key, double fallback) const {
    return file_.get_double(cat(prefix_, key)).value_or(fallback);
  }
  std::string get_string(std::string_view key) const {
    const std::string* value = file_.get_string(cat(prefix_, key));
    return value == nullptr ? "" : *value;
  }
  bool has(std::string_view key) const { return file_.find(cat(prefix_, key)) != nullptr; }

 private:
  const gguf::File& file_;
  std::string prefix_;
};

void read_freq_factors(const TensorFiles& files, RopeConfig& rope) {
  const StoredTensor* tensor = files.find("rope_freqs.weight");
  if (tensor == nullptr) return;
  if (tensor->dtype != DType::f32 || tensor->shape != std::vector<int64_t>{rope.rotary_dim / 2}) {
    throw Error(
        cat(files.path(), ": rope_freqs.weight is no F32 vector of ", rope.rotary_dim / 2, " values"));
  }
  rope.freq_factors.resize(static_cast<size_t>(rope.rotary_dim / 2));
  quant::unpack_row(DType::f32, tensor->data.data(), rope.freq_factors.data(), rope.rotary_dim / 2);
  for (const float factor : rope.freq_factors) {
    if (!(factor > 0))
      throw Error(cat(files.path(), ": rope_freqs.weight holds ", factor, ", expected above 0"));
  }
}

void read_yarn(const Keys& keys, const TensorFiles& files, RopeConfig& rope) {
  rope.scaling = RopeScaling::yarn;
  rope.beta_fast = keys.get_double("rope.scaling.yarn_beta_fast", 32.0);
  rope.beta_slow = keys.get_double("rope.scaling.yarn_beta_slow", 1.0);
  if (!(rope.beta_fast > 0 && rope.beta_fast <= 1e6 && rope.beta_slow > 0 && rope.beta_slow <= 1e6))
    throw Error(cat(files.path(), ": rope.scaling.yarn_beta_fast or yarn_beta_slow is out of range"));
  const double extrapolation = keys.get_double("rope.scaling.yarn_ext_factor", 1.0);
  if (!(extrapolation <= 1)) throw Error(cat(files.path(), ": rope.scaling.yarn_ext_factor is above 1"));
  rope.extrapolation = extrapolation < 0 ? 1.0 : extrapolation;  // below 0 says "not set"
  const double log_multiplier = keys.get_double("rope.scaling.yarn_log_multiplier", 0.0);
  if (!(log_multiplier >= 0 && log_multiplier <= 1e3))
    throw Error(cat(files.path(), ": rope.scaling.yarn_log_multiplier is out of range"));
  if (log_multiplier > 0) rope.mscale = 1.0, rope.mscale_all_dim = log_multiplier;
}

void read_rope(const Keys& keys, const TensorFiles& files, int head_dim, int max_positions,
               RopeConfig& rope) {
  rope.theta = keys.get_double("rope.freq_base", 10000.0);
  if (!(rope.theta > 1.0 && rope.theta < 1e12))
    throw Error(cat(files.path(), ": rope.freq_base is out of range"));
  rope.rotary_dim = keys.get_int("rope.dimension_count", 2, head_dim, head_dim);
  if (rope.rotary_dim % 2 != 0) throw Error(cat(files.path(), ": rope.dimension_count is odd"));
  const std::string scaling = keys.get_string("rope.scaling.type");
  rope.factor = keys.get_double("rope.scaling.factor", keys.get_double("rope.scale_linear", 1.0));
  if (!(rope.factor >= 1.0 && rope.factor <= 1e6))
    throw Error(cat(files.path(), ": rope.scaling.factor is out of range"));
  rope.original_positions =
      keys.get_int("rope.scaling.original_context_length", 1, limits::kMaxPositions, max_positions);
  // Unlike config.json's attention_factor, GGUF's multiplies what YaRN derives.
  rope.attention_multiplier = keys.get_double("rope.scaling.attn_factor", 1.0);
  if (!(rope.attention_multiplier > 0 && rope.attention_multiplier <= 1e3))
    throw Error(cat(files.path(), ": rope.scaling.attn_factor is out of range"));
  if (scaling == "yarn") {
    read_yarn(keys, files, rope);
  } else if (scaling == "linear" || (scaling.empty() && rope.factor != 1.0)) {
    rope.scaling = RopeScaling::linear;
  } else if (!scaling.empty() && scaling != "none") {
    throw Error(cat(files.path(), ": unknown rope scaling ", scaling, ", expected none, linear or yarn"));
  }
  read_freq_factors(files, rope);
}

}  // namespace

ModelConfig read_gguf_config(const TensorFiles& files) {
  const Keys keys(files);
  const gguf::File& file = files.gguf();
  ModelConfig model;
  if (const std::string* name = file.get_string("general.name")) model.name = *name;
  model.layers = keys.get_int("block_count", 1, limits::kLayers);
  model.hidden = keys.get_int("embedding_length", 1, limits::kHidden);
  model.heads = keys.get_int("attention.head_count", 1, limits::kHeads);
  model.kv_heads = keys.get_int("attention.head_count_kv", 1, limits::kHeads, model.heads);
  model.head_dim =
      keys.get_int("attention.key_length", 2, limits::kHeadDim, std::max(model.hidden / model.heads, 2));
  if (keys.get_int("attention.value_length", 1, limits::kHeadDim, model.head_dim) != model.head_dim) {
    throw Error(cat(file.path(), ": keys and values of different length are not supported"));
  }
  model.ffn = keys.get_int("feed_forward_length", 1, limits::kFfn);
  model.max_positions = keys.get_int("context_length", 1, limits::kMaxPositions);
  const StoredTensor* table = files.find("model.embed_tokens.weight");
  if (table == nullptr || table->shape.size() != 2)
    throw Error(cat(file.path(), ": token_embd.weight is missing"));
  model.vocab =
      limits::checked(table->shape[0], 1, limits::kVocab, cat(file.path(), ": rows of token_embd.weight"));
  model.norm_kind = keys.has("attention.layer_norm_epsilon") ? NormKind::layer : NormKind::rms;
  model.norm_eps = static_cast<float>(model.norm_kind == NormKind::layer
                                          ? keys.get_double("attention.layer_norm_epsilon", 1e-5)
                                          : keys.get_double("attention.layer_norm_rms_epsilon", 1e-5));
  model.tied_head = files.find("lm_head.weight") == nullptr;
  model.sliding_window = keys.get_int("attention.sliding_window", 0, limits::kMaxPositions, 0);
  read_rope(keys, files, model.head_dim, model.max_positions, model.rope);
  const auto token = [&file](const char* key) {
    return limits::checked(file.get_int(key).value_or(-1), -1, 0xffffffff >> 1, key);
  };
  model.bos = token("tokenizer.ggml.bos_token_id");
  if (const int eos = token("tokenizer.ggml.eos_token_id"); eos >= 0) model.eos.push_back(eos);
  return model;
}

}  // namespace llamita
