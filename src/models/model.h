// Model: one family's forward pass over loaded weights. Immutable after loading; one forward() at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "nn/forward_batch.h"
#include "ops/context.h"
#include "weights/model_config.h"
#include "weights/placement.h"
#include "weights/tensor_files.h"

namespace llamita {

class Model {
 public:
  virtual ~Model() = default;

  // Logits (R, V) f32 in the context's arena, for the tokens of batch.logit_rows. Writes the step's keys and
  // values into the cache. With shape-only tensors and a measuring arena it plans memory and touches nothing.
  virtual Tensor forward(const ForwardBatch& batch, const KvCache& kv, Context& context) const = 0;

  // Of models with config().vision: what n prepared images (n, 3, S, S) f32 become, written to `rows` (n,
  // tokens, C) f32: an image's rows are the last config().vision->image_rows() of its tokens. `batch` has the
  // parts of a ForwardBatch that attention reads, over pages of the arena's (nn/vision_batch.h).
  virtual void encode_images(const Tensor& pixels, const ForwardBatch& batch, const Tensor& rows,
                             Context& context) const;

  const ModelConfig& config() const { return config_; }
  int64_t parameters() const { return parameters_; }
  int64_t weight_bytes() const { return weight_bytes_; }        // as they lie in memory
  int64_t embedding_bytes() const { return embedding_bytes_; }  // of the token table
  const Placement& placement() const { return placement_; }

 protected:
  explicit Model(ModelConfig config) : config_(std::move(config)) {}

  ModelConfig config_;
  int64_t parameters_ = 0;
  int64_t weight_bytes_ = 0;
  int64_t embedding_bytes_ = 0;
  Placement placement_;

  friend std::unique_ptr<Model> load_model(const TensorFiles&, const std::function<void(int64_t, int64_t)>&,
                                           const Placement&, const std::string&);
};

// Loads a model folder or a .gguf file: family from config.json's architectures or general.architecture,
// every weight read exactly once and shape-checked. `progress` is called with bytes done and in all.
// `packed_folder`: where the packed form of a CPU's weights is kept for the next start; "": nowhere. Throws
// Error.
std::unique_ptr<Model> load_model(const std::string& path,
                                  const std::function<void(int64_t, int64_t)>& progress = {},
                                  const Placement& placement = {}, const std::string& packed_folder = {});
// The same from files that are open, or made-up weights; the model keeps what it needs of them.
std::unique_ptr<Model> load_model(const TensorFiles& files,
                                  const std::function<void(int64_t, int64_t)>& progress = {},
                                  const Placement& placement = {}, const std::string& packed_folder = {});

// The tensors, without data, whose numbers loading TensorFiles::made_up() makes up.
std::vector<StoredTensor> made_up_tensors(const TensorFiles& files);

// Only the shape of the model at `path`; no weights are read.
ModelConfig read_model_config(const std::string& path);

// What load_model() would give, with all of its checks but without reading a matrix.
struct ModelSize {
  ModelConfig config;
  int64_t weight_bytes = 0;
  int64_t copied_bytes = 0;  // of those, in memory of their own: turned, reordered, widened; on a GPU all
};
ModelSize measure_model(const TensorFiles& files, const Placement& placement = {});

}  // namespace llamita
