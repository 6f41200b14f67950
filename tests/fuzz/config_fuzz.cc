// Any bytes are a config.json for every family: a ModelConfig whose sizes are in range, or an Error. What is
// a ModelConfig has rotary frequencies.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "llamita/error.h"
#include "models/family.h"
#include "nn/rope.h"
#include "weights/limits.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace llamita;
  Json json;
  try {
    json = Json::parse({reinterpret_cast<const char*>(data), size}, "input");
    json.as_object("input");
  } catch (const Error&) {
    return 0;
  }
  for (const Family* family : families()) {
    try {
      const ModelConfig config = family->from_config(ConfigReader(json, "input"));
      const auto in_range = [](int64_t value, int64_t most) { return value >= 1 && value <= most; };
      LLAMITA_CHECK(in_range(config.layers, limits::kLayers) && in_range(config.hidden, limits::kHidden) &&
                        in_range(config.heads, limits::kHeads) && in_range(config.kv_heads, limits::kHeads) &&
                        in_range(config.head_dim, limits::kHeadDim) && in_range(config.ffn, limits::kFfn) &&
                        in_range(config.vocab, limits::kVocab) &&
                        in_range(config.max_positions, limits::kMaxPositions),
                    "a size out of range");
      if (config.rope.rotary_dim == 0) continue;  // learned positions
      const Rope rope(config.rope, config.max_positions);
      for (const float frequency : rope.inv_freq()) LLAMITA_CHECK(!std::isnan(frequency), "no frequency");
    } catch (const Error&) {
    }
  }
  return 0;
}
