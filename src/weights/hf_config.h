// config.json to ModelConfig: the keys that Llama-like models share. A family adds its own on top (models/).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "formats/json.h"
#include "weights/model_config.h"

namespace llamita {

// Reads keys of one JSON object and says where it was when something is wrong.
class ConfigReader {
 public:
  // Borrows `config`; `file` names it in errors.
  ConfigReader(const Json& config, std::string file) : config_(config), file_(std::move(file)) {}

  const Json* find(std::string_view key) const;                       // absent and null are the same: nullptr
  int get_int(std::string_view key, int64_t min, int64_t max) const;  // Error when absent or out of range
  int get_int(std::string_view key, int64_t min, int64_t max, int fallback) const;
  double get_double(std::string_view key, double fallback) const;
  bool get_bool(std::string_view key, bool fallback) const;
  std::string get_string(std::string_view key, std::string_view fallback) const;
  [[noreturn]] void fail(const std::string& message) const;
  std::string what(std::string_view key) const;
  const std::string& file() const { return file_; }

 private:
  const Json& config_;
  std::string file_;
};

// The same object with what `defaults` has and it lacks, as transformers' configuration classes fill it.
Json with_defaults(const Json& config, const Json& defaults, const std::string& what);

// Sizes, norm, activation, rope and window of a Llama-like config.json.
ModelConfig read_llama_like_config(const ConfigReader& config);
// The number that a norm adds before it divides. Error unless it is above 0, as an f32, and at most 1.
float read_norm_eps(const ConfigReader& config, std::string_view key, double fallback);
Activation activation_by_name(const std::string& name, const ConfigReader& config);
// rope_parameters (transformers 5) or rope_theta with rope_scaling (before).
RopeConfig read_rope(const ConfigReader& config, int head_dim, int max_positions);
// bos_token_id and eos_token_id of config.json and generation_config.json beside it.
void read_special_tokens(const ConfigReader& config, const std::string& folder, ModelConfig& model);

}  // namespace llamita
