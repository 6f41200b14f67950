#include "weights/hf_config.h"

#include <algorithm>
#include <filesystem>
#include <limits>

#include "base/cat.h"
#include "llamita/error.h"
#include "weights/limits.h"

namespace llamita {

const Json* ConfigReader::find(std::string_view key) const {
  const Json* value = config_.find(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

std::string ConfigReader::what(std::string_view key) const { return cat(file_, ": ", key); }

void ConfigReader::fail(const std::string& message) const { throw Error(cat(file_, ": ", message)); }

int ConfigReader::get_int(std::string_view key, int64_t min, int64_t max) const {
  const Json* value = find(key);
  if (value == nullptr) fail(cat("the key ", key, " is missing"));
  return limits::checked(value->as_int(what(key)), min, max, what(key));
}

int ConfigReader::get_int(std::string_view key, int64_t min, int64_t max, int fallback) const {
  return find(key) == nullptr ? fallback : get_int(key, min, max);
}

double ConfigReader::get_double(std::string_view key, double fallback) const {
  const Json* value = find(key);
  return value == nullptr ? fallback : value->as_double(what(key));
}

bool ConfigReader::get_bool(std::string_view key, bool fallback) const {
  const Json* value = find(key);
  return value == nullptr ? fallback : value->as_bool(what(key));
}

std::string ConfigReader::get_string(std::string_view key, std::string_view fallback) const {
  const Json* value = find(key);
  return value == nullptr ? std::string(fallback) : value->as_string(what(key));
}

float read_norm_eps(const ConfigReader& config, std::string_view key, double fallback) {
  const double eps = config.get_double(key, fallback);
  if (!(eps >= std::numeric_limits<float>::min() && eps <= 1))
    config.fail(cat(key, " is ", eps, ", expected above 0 and at most 1"));
  return static_cast<float>(eps);
}

Activation activation_by_name(const std::string& name, const ConfigReader& config) {
  constexpr std::pair<std::string_view, Activation> kNames[] = {
      {"silu", Activation::silu},
      {"swish", Activation::silu},
      {"gelu", Activation::gelu},
      {"gelu_new", Activation::gelu_tanh},
      {"gelu_tanh", Activation::gelu_tanh},
      {"gelu_pytorch_tanh", Activation::gelu_tanh},
      {"quick_gelu", Activation::quick_gelu},
      {"relu", Activation::relu},
  };
  for (const auto& [known, activation] : kNames) {
    if (name == known) return activation;
  }
  config.fail(cat("unknown activation ", name));
}

namespace {

RopeScaling scaling_by_name(const std::string& name, const ConfigReader& config) {
  constexpr std::pair<std::string_view, RopeScaling> kNames[] = {
      {"default", RopeScaling::none},  {"linear", RopeScaling::linear}, {"dynamic", RopeScaling::dynamic},
      {"llama3", RopeScaling::llama3}, {"yarn", RopeScaling::yarn},
  };
  for (const auto& [known, scaling] : kNames) {
    if (name == known) return scaling;
  }
  config.fail(cat("unknown rope scaling ", name, ", expected default, linear, dynamic, llama3 or yarn"));
}

void read_scaling(const ConfigReader& scaling, int max_positions, RopeConfig& rope) {
  rope.scaling =
      scaling_by_name(scaling.get_string("rope_type", scaling.get_string("type", "default")), scaling);
  if (rope.scaling == RopeScaling::none) return;
  rope.factor = scaling.get_double("factor", 1.0);
  if (!(rope.factor >= 1.0 && rope.factor <= 1e6))
    scaling.fail(cat("factor ", rope.factor, " is out of range"));
  rope.original_positions =
      scaling.get_int("original_max_position_embeddings", 1, limits::kMaxPositions, max_positions);
  rope.low_freq_factor = scaling.get_double("low_freq_factor", 1.0);
  rope.high_freq_factor = scaling.get_double("high_freq_factor", 4.0);
  if (rope.scaling == RopeScaling::llama3 &&
      !(rope.low_freq_factor > 0 && rope.high_freq_factor > rope.low_freq_factor)) {
    scaling.fail("expected 0 < low_freq_factor < high_freq_factor");
  }
  rope.beta_fast = scaling.get_double("beta_fast", 32.0);
  rope.beta_slow = scaling.get_double("beta_slow", 1.0);
  if (!(rope.beta_fast > 0 && rope.beta_slow > 0)) scaling.fail("expected beta_fast and beta_slow above 0");
  rope.attention_factor = scaling.get_double("attention_factor", 0.0);
  rope.mscale = scaling.get_double("mscale", 0.0);
  rope.mscale_all_dim = scaling.get_double("mscale_all_dim", 0.0);
  rope.truncate = scaling.get_bool("truncate", true);
}

}  // namespace

RopeConfig read_rope(const ConfigReader& config, int head_dim, int max_positions) {
  RopeConfig rope;
  rope.theta = config.get_double("rope_theta", 10000.0);
  double partial = config.get_double("partial_rotary_factor", 1.0);
  for (const std::string_view key : {std::string_view("rope_scaling"), std::string_view("rope_parameters")}) {
    const Json* object = config.find(key);
    if (object == nullptr) continue;
    object->as_object(config.what(key));
    const ConfigReader scaling(*object, config.what(key));
    read_scaling(scaling, max_positions, rope);
    rope.theta = scaling.get_double("rope_theta", rope.theta);
    partial = scaling.get_double("partial_rotary_factor", partial);
  }
  if (!(rope.theta > 1.0 && rope.theta < 1e12))
    config.fail(cat("rope_theta ", rope.theta, " is out of range"));
  if (!(partial > 0 && partial <= 1)) config.fail(cat("partial_rotary_factor ", partial, " is out of range"));
  rope.rotary_dim = static_cast<int>(head_dim * partial);
  if (rope.rotary_dim < 2 || rope.rotary_dim % 2 != 0) config.fail(cat("odd rotary size ", rope.rotary_dim));
  return rope;
}

Json with_defaults(const Json& config, const Json& defaults, const std::string& what) {
  Json::Object out = config.as_object(what);
  for (const auto& [key, value] : defaults.as_object(what)) {
    if (config.find(key) == nullptr) out.emplace_back(key, value);
  }
  return Json(std::move(out));
}

ModelConfig read_llama_like_config(const ConfigReader& config) {
  ModelConfig model;
  model.layers = config.get_int("num_hidden_layers", 1, limits::kLayers);
  model.hidden = config.get_int("hidden_size", 1, limits::kHidden);
  model.heads = config.get_int("num_attention_heads", 1, limits::kHeads);
  model.kv_heads = config.get_int("num_key_value_heads", 1, limits::kHeads, model.heads);
  model.head_dim = config.get_int("head_dim", 2, limits::kHeadDim, std::max(model.hidden / model.heads, 2));
  model.ffn = config.get_int("intermediate_size", 1, limits::kFfn);
  model.vocab = config.get_int("vocab_size", 1, limits::kVocab);
  model.max_positions = config.get_int("max_position_embeddings", 1, limits::kMaxPositions);
  model.norm_eps = read_norm_eps(config, "rms_norm_eps", 1e-6);
  model.activation = activation_by_name(config.get_string("hidden_act", "silu"), config);
  model.tied_head = config.get_bool("tie_word_embeddings", false);
  model.rope = read_rope(config, model.head_dim, model.max_positions);
  if (config.get_double("attention_dropout", 0) < 0) config.fail("attention_dropout is negative");
  return model;
}

void read_special_tokens(const ConfigReader& config, const std::string& folder, ModelConfig& model) {
  const auto add = [&model](const ConfigReader& file) {
    model.bos = file.find("bos_token_id") == nullptr || file.find("bos_token_id")->is_array()
                    ? model.bos
                    : file.get_int("bos_token_id", -1, limits::kVocab);
    const Json* eos = file.find("eos_token_id");
    if (eos == nullptr) return;
    const Json::Array one{*eos};
    for (const Json& id : eos->is_array() ? eos->as_array("") : one) {
      const int token = limits::checked(id.as_int(file.what("eos_token_id")), -1, limits::kVocab,
                                        file.what("eos_token_id"));
      if (token >= 0 && std::find(model.eos.begin(), model.eos.end(), token) == model.eos.end()) {
        model.eos.push_back(token);
      }
    }
  };
  add(config);
  const std::string generation = folder + "/generation_config.json";
  std::error_code ignored;
  if (!std::filesystem::exists(generation, ignored)) return;
  const Json json = Json::parse_file(generation);
  add(ConfigReader(json, generation));
}

}  // namespace llamita
