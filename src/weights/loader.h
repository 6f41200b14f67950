// WeightLoader: hands a model its weights, each exactly once and shape-checked. Matrices stay where they are,
// in the mapped file and in the file's format; what must change (blocks that kernels want interleaved, rotary
// row order, GPT-2's transposed matrices, bytes at odd addresses) is copied once, and the file's pages are
// released behind the copy, so that memory never holds the model twice. On a GPU every weight is copied there
// while the next ones are looked at, the parts of one behind each other. finish() names what was left over.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "quant/weight.h"
#include "tensor/storage.h"
#include "tensor/tensor.h"
#include "weights/device_weights.h"
#include "weights/placement.h"
#include "weights/tensor_files.h"

namespace llamita {

class PackedCache;

// A small f32 vector that owns its memory: norm weights, biases.
struct Vector {
  Storage storage;
  Tensor values;  // (n) f32; undefined when the model has none
};

// One stored matrix that becomes rows of a fused weight.
struct PartSpec {
  std::string label;        // "q"
  std::string name;         // "model.layers.0.self_attn.q_proj.weight"
  int64_t rows = 0;         // N of this part
  int rotary_head_dim = 0;  // > 0: rows of rotary heads of this size, in half-split order for the kernels
};

enum class Orientation { out_in, in_out };  // (N, K) as usual; (K, N) as GPT-2's Conv1D stores it

class WeightLoader {
 public:
  using Progress = std::function<void(int64_t done_bytes, int64_t total_bytes)>;

  // Borrows the files for its lifetime; weights keep the mappings they need alive. What must change comes
  // from `cache` where it has it, and goes there where not; saving it is the caller's.
  explicit WeightLoader(const TensorFiles& files, Progress progress = {}, const Placement& placement = {},
                        PackedCache* cache = nullptr);
  // For a GPU: what is given out may be read there after device.finish(), which is the caller's to call.
  WeightLoader(const TensorFiles& files, const Placement& placement, DeviceWeights& device);
  // Checks and counts every weight as loading does, but reads no matrix and gives out empty ones.
  static WeightLoader measuring(const TensorFiles& files, const Placement& placement = {});

  const TensorFiles& files() const { return files_; }
  const Placement& placement() const { return placement_; }
  bool has(std::string_view name) const { return files_.find(name) != nullptr; }

  // A (sum of rows, cols) matrix of these parts. Throws Error naming the tensor that is missing or misshapen.
  quant::Weight linear(std::span<const PartSpec> parts, int64_t cols,
                       Orientation stored = Orientation::out_in);
  quant::Weight linear(const PartSpec& part, int64_t cols, Orientation stored = Orientation::out_in) {
    return linear(std::span(&part, 1), cols, stored);
  }
  // Concatenated vectors as f32.
  Vector vector(std::span<const PartSpec> parts);
  Vector vector(const std::string& name, int64_t n) {
    const PartSpec part{"", name, n};
    return vector(std::span(&part, 1));
  }
  // A small matrix that is added and not multiplied with, as f32: (rows, cols).
  Vector table(const std::string& name, int64_t rows, int64_t cols);
  // A stored convolution (rows, channels, side, side) over patches as the matrix (rows, K) that it is, with
  // zeros behind the channels' elements up to a K of whole 32, which kernels want.
  quant::Weight convolution(const std::string& name, int64_t rows, int64_t channels, int64_t side);
  // A table that was computed, where kernels can read it: `values` as they are, (rows, cols) f32.
  Vector computed(std::span<const float> values, int64_t rows, int64_t cols);
  // Says that a stored constant (a mask, a precomputed table) is not needed.
  void skip(std::string_view name);
  // The same for all whose Hugging Face names begin so: layers that do not run.
  void skip_all(std::string_view prefix);
  // A (rows, cols) matrix that is not needed because `of`, taken already, is the same (a tied head stored
  // twice). Throws Error when it is misshapen; warns when its bytes differ.
  void skip_duplicate(const std::string& name, const std::string& of, int64_t rows, int64_t cols);
  // Throws Error when a stored tensor was never taken.
  void finish() const;

  // What was made up so far (TensorFiles::made_up).
  const std::deque<StoredTensor>& invented() const { return invented_; }
  int64_t parameters() const { return parameters_; }
  int64_t bytes() const { return bytes_; }
  // On a GPU: the room that the weights take there, borders of memory included.
  int64_t device_bytes() const { return device_bytes_; }
  // Those of bytes() that are memory of their own and no part of the mapped files.
  int64_t copied_bytes() const { return copied_bytes_; }

 private:
  const StoredTensor& take(const std::string& name, std::span<const int64_t> shape);
  const StoredTensor& take_matrix(const std::string& name, std::span<const int64_t> shape);
  Storage load(const StoredTensor& tensor, const PartSpec& part, int64_t cols, Orientation stored,
               quant::Layout layout);
  quant::Layout layout_of(std::span<const PartSpec> parts, Orientation stored) const;
  bool must_copy(const StoredTensor& tensor, const PartSpec& part, Orientation stored) const;
  Storage copied(const StoredTensor& tensor, const PartSpec& part, int64_t cols, Orientation stored) const;
  Storage interleaved(const StoredTensor& tensor, const PartSpec& part, int64_t cols) const;
  void count(const StoredTensor& tensor);
  // Of a GPU (loader_gpu.cc).
  Storage room_on_gpu(size_t bytes);
  void place(std::span<const StoredTensor* const> tensors, std::span<const PartSpec> parts,
             Orientation stored, quant::Weight& weight);
  void place_convolution(const StoredTensor& tensor, quant::Weight& weight);
  void place_part(const StoredTensor& tensor, const PartSpec& part, int64_t cols, Orientation stored,
                  quant::Part& placed);
  Vector place_vector(std::span<const StoredTensor* const> tensors, std::span<const PartSpec> parts);
  // Of models whose weights are made up.
  const StoredTensor& invent(const std::string& name, std::span<const int64_t> shape);

  const TensorFiles& files_;
  Progress progress_;
  Placement placement_;
  DeviceWeights* device_ = nullptr;  // of a GPU, but when measuring
  PackedCache* cache_ = nullptr;     // of the CPU, where one is wanted
  std::deque<StoredTensor> invented_;
  std::unordered_set<const StoredTensor*> taken_;
  int64_t total_bytes_ = 0;
  int64_t done_bytes_ = 0;
  int64_t parameters_ = 0;
  int64_t bytes_ = 0;
  int64_t device_bytes_ = 0;
  int64_t copied_bytes_ = 0;
  bool measuring_ = false;
};

}  // namespace llamita
