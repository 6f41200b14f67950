// Model: one family's forward pass over loaded weights. Immutable after loading; one forward() at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "nn/forward_batch.h"
#include "ops/context.h"
#include "quant/weight.h"
#include "weights/model_config.h"
#include "weights/tensor_files.h"

namespace llamita {

class Model {
 public:
  virtual ~Model() = default;

  // Logits (R, V) f32 in the context's arena, for the tokens of batch.logit_rows. Writes the step's keys and
  // values into the cache. With shape-only tensors and a measuring arena it plans memory and touches nothing.
  virtual Tensor forward(const ForwardBatch& batch, const KvCache& kv, Context& context) const = 0;

  const ModelConfig& config() const { return config_; }
  int64_t parameters() const { return parameters_; }
  int64_t weight_bytes() const { return weight_bytes_; }  // as they lie in memory

 protected:
  explicit Model(ModelConfig config) : config_(std::move(config)) {}

  ModelConfig config_;
  int64_t parameters_ = 0;
  int64_t weight_bytes_ = 0;

  friend std::unique_ptr<Model> load_model(const TensorFiles&, const std::function<void(int64_t, int64_t)>&,
                                           quant::Layout);
};

// Loads a model folder or a .gguf file: family from config.json's architectures or general.architecture,
// every weight read exactly once and shape-checked. `progress` is called with bytes done and in all; `layout`
// is how matrices of blocks should lie: linear_layout() says it. Throws Error.
std::unique_ptr<Model> load_model(const std::string& path,
                                  const std::function<void(int64_t, int64_t)>& progress = {},
                                  quant::Layout layout = quant::Layout::rows);
// The same from files that are open; the model keeps what it needs of them.
std::unique_ptr<Model> load_model(const TensorFiles& files,
                                  const std::function<void(int64_t, int64_t)>& progress = {},
                                  quant::Layout layout = quant::Layout::rows);

// Only the shape of the model at `path`; no weights are read.
ModelConfig read_model_config(const std::string& path);

// What load_model() would give, with all of its checks but without reading a matrix.
struct ModelSize {
  ModelConfig config;
  int64_t weight_bytes = 0;
  int64_t copied_bytes = 0;  // of those, in memory of their own: turned, reordered, widened
};
ModelSize measure_model(const TensorFiles& files, quant::Layout layout = quant::Layout::rows);

}  // namespace llamita
