// What the GPU tests of ops share: tensors in NaN-poisoned device memory beside the same values on the host,
// a context on the card, and the CPU's reference variant as the specification.
#pragma once

#include <cstdio>
#include <functional>

#include "hw/cuda/cublaslt.h"
#include "ops/op_test_support.h"
#include "tests/hw/cuda/gpu_test.h"

namespace llamita::test {

// The value as the dtype holds it.
inline float rounded(float value, DType dtype) {
  if (dtype == DType::bf16) return to_float(to_bf16(value));
  if (dtype == DType::f16) return to_float(to_f16(value));
  return value;
}

// TARGETS.md's bounds for a result that passed through this type.
inline double nmse_bound(DType dtype) {
  return dtype == DType::bf16 ? 1.2e-5 : dtype == DType::f16 ? 2e-7 : 1e-10;
}

// A matrix on the card: rows `gap` elements longer than used, the gaps and what nobody wrote NaN.
class DeviceMatrix {
 public:
  DeviceMatrix(int64_t rows, int64_t cols, DType dtype, int64_t gap = 8)
      : rows_(rows), cols_(cols), stride_(cols + gap), dtype_(dtype), size_(info(dtype).block_bytes) {
    bytes_.assign(static_cast<size_t>(std::max<int64_t>(rows * stride_, 1) * size_), 0xFF);
    storage_ = cuda::allocate_storage(bytes_.size(), 0);
    poison();
  }

  void fill_normal(uint32_t seed, float scale = 1) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, scale);
    std::vector<float> values(static_cast<size_t>(rows_ * cols_));
    for (float& value : values) value = normal(random);
    fill(values);
  }

  // Rounds to the dtype, here and there.
  void fill(const std::vector<float>& values) {
    ASSERT_EQ(static_cast<int64_t>(values.size()), rows_ * cols_);
    host_.resize(values.size());
    for (int64_t i = 0; i < rows_ * cols_; ++i) {
      host_[static_cast<size_t>(i)] = rounded(values[static_cast<size_t>(i)], dtype_);
      put(i / cols_ * stride_ + i % cols_, values[static_cast<size_t>(i)]);
    }
    upload();
  }

  void poison() {
    std::fill(bytes_.begin(), bytes_.end(), uint8_t{0xFF});
    upload();
  }

  // The elements as floats; the gaps must be as they were.
  std::vector<float> read() {
    LLAMITA_CUDA_CHECK(cudaDeviceSynchronize());
    std::vector<uint8_t> now(bytes_.size());
    LLAMITA_CUDA_CHECK(cudaMemcpy(now.data(), storage_.data(), now.size(), cudaMemcpyDeviceToHost));
    std::vector<float> values(static_cast<size_t>(rows_ * cols_));
    int64_t spoiled = -1;
    for (int64_t row = 0; row < rows_; ++row) {
      for (int64_t c = 0; c < cols_; ++c)
        values[static_cast<size_t>(row * cols_ + c)] = get(now, row * stride_ + c);
      for (int64_t b = cols_ * size_; b < stride_ * size_; ++b)
        if (now[static_cast<size_t>(row * stride_ * size_ + b)] != 0xFF && spoiled < 0) spoiled = row;
    }
    EXPECT_EQ(spoiled, -1) << "wrote past the end of row " << spoiled << " of " << rows_ << " x " << cols_;
    return values;
  }

  Tensor tensor() const {
    const Device device{DeviceKind::cuda, 0};
    if (rows_ == 0) return Tensor(storage_.data(), dtype_, {0, cols_}, device);
    return Tensor(storage_.data(), dtype_, {rows_, stride_}, device).columns(0, cols_);
  }
  // A dense vector (one row).
  Tensor vector() const { return Tensor(storage_.data(), dtype_, {cols_}, Device{DeviceKind::cuda, 0}); }

  // The values before the card changed them, for the reference.
  std::vector<float>& host() { return host_; }
  Tensor host_tensor() { return Tensor(host_.data(), DType::f32, {rows_, cols_}); }
  Tensor host_vector() { return Tensor(host_.data(), DType::f32, {cols_}); }

 private:
  void put(int64_t i, float value) {
    uint8_t* to = bytes_.data() + i * size_;
    const bf16 b = to_bf16(value);
    const f16 h = to_f16(value);
    if (dtype_ == DType::bf16) std::memcpy(to, &b, 2);
    if (dtype_ == DType::f16) std::memcpy(to, &h, 2);
    if (dtype_ == DType::f32) std::memcpy(to, &value, 4);
  }
  float get(const std::vector<uint8_t>& bytes, int64_t i) const {
    const uint8_t* from = bytes.data() + i * size_;
    bf16 b;
    f16 h;
    float f;
    if (dtype_ == DType::bf16) return std::memcpy(&b, from, 2), to_float(b);
    if (dtype_ == DType::f16) return std::memcpy(&h, from, 2), to_float(h);
    return std::memcpy(&f, from, 4), f;
  }
  void upload() {
    LLAMITA_CUDA_CHECK(cudaMemcpy(storage_.data(), bytes_.data(), bytes_.size(), cudaMemcpyHostToDevice));
    LLAMITA_CUDA_CHECK(cudaDeviceSynchronize());
  }

  int64_t rows_, cols_, stride_;
  DType dtype_;
  int64_t size_;
  std::vector<uint8_t> bytes_;
  std::vector<float> host_;
  Storage storage_;
};

// Integers on the card and here.
template <class T>
struct DeviceInts {
  explicit DeviceInts(std::vector<T> v) : values(std::move(v)), array(values) {}
  Tensor tensor(std::initializer_list<int64_t> shape) const {
    return Tensor(array.data(), DTypeOf<T>::value, shape, Device{DeviceKind::cuda, 0});
  }
  Tensor tensor() const { return tensor({static_cast<int64_t>(values.size())}); }
  Tensor host() { return Tensor::of(values.data(), {static_cast<int64_t>(values.size())}); }
  std::vector<T> values;
  DeviceArray<T> array;
};

inline quant::Weight to_device(const quant::Weight& weight) {
  quant::Weight out = weight;
  for (quant::Part& part : out.parts) {
    const Storage on_card = cuda::allocate_storage(part.storage.bytes(), 0);
    LLAMITA_CUDA_CHECK(
        cudaMemcpy(on_card.data(), part.storage.data(), part.storage.bytes(), cudaMemcpyHostToDevice));
    part.storage = on_card;
  }
  LLAMITA_CUDA_CHECK(cudaDeviceSynchronize());
  return out;
}

// The same with the parts behind each other in one piece of memory, as the loader places them.
inline quant::Weight to_device_in_one_piece(const quant::Weight& weight) {
  quant::Weight out = weight;
  const Storage whole = cuda::allocate_storage(static_cast<size_t>(weight.bytes()), 0);
  auto* to = static_cast<uint8_t*>(whole.data());
  for (quant::Part& part : out.parts) {
    const size_t bytes = part.storage.bytes();
    LLAMITA_CUDA_CHECK(cudaMemcpy(to, part.storage.data(), bytes, cudaMemcpyHostToDevice));
    part.storage = Storage::borrow(to, bytes, std::make_shared<Storage>(whole));
    to += bytes;
  }
  LLAMITA_CUDA_CHECK(cudaDeviceSynchronize());
  return out;
}

inline void activate(Activation kind, std::vector<float>& values) {
  for (float& value : values) value = static_cast<float>(activation_of(kind, value));
}

// A stream, a poisoned arena and a context on card 0.
class CudaMachine {
 public:
  explicit CudaMachine(DType activation, size_t arena_bytes = size_t{96} << 20)
      : memory_(cuda::allocate_storage(arena_bytes, 0)),
        arena_(memory_, Device{DeviceKind::cuda, 0}),
        context_(stream_, arena_, caps_of(activation)) {
    LLAMITA_CUDA_CHECK(cudaMemset(memory_.data(), 0xFF, arena_bytes));
    LLAMITA_CUDA_CHECK(cudaDeviceSynchronize());
  }
  Context& context() { return context_; }
  const cuda::Stream& stream() const { return stream_; }

  static Caps caps_of(DType activation) {
    const cuda::DeviceProperties card = cuda::device_properties(0);
    Caps caps;
    caps.device = DeviceKind::cuda;
    caps.activation = activation;
    caps.arch = card.arch();
    caps.sm_count = card.sm_count;
    return caps;
  }

 private:
  cuda::Stream stream_;
  Storage memory_;
  Arena arena_;
  Context context_;
};

// Runs each CUDA variant that supports the arguments; `after` gets its name once the card is done. Returns
// how many ran.
template <class Args>
int for_variants(const Op<Args>& op, const Args& args, CudaMachine& machine,
                 const std::function<void(std::string_view)>& after) {
  op.check(args);
  int count = 0;
  for (const Variant<Args>& variant : op.variants) {
    if (has_prepared_norm(args) && !variant.takes_prepared) continue;
    if (!variant.supports(args, machine.context().caps())) continue;
    if (const char* why = "";
        variant.name == "cublaslt" && cuda::CublasLt::of_current_device(&why) == nullptr) {
      static const bool said = (std::printf("cublaslt skipped: %s\n", why), true);
      static_cast<void>(said);
      continue;
    }
    const Arena::Scope scope(machine.context().arena());
    variant.run(args, machine.context());
    machine.stream().synchronize();
    after(variant.name);
    ++count;
  }
  EXPECT_GT(count, 0) << op.name << " has no variant for this on a GPU";
  return count;
}

template <class Args>
void run_reference(const Op<Args>& op, const Args& args, Context& context) {
  for (const Variant<Args>& variant : op.variants) {
    if (variant.name == "reference") return variant.run(args, context);
  }
  FAIL() << op.name << " has no reference";
}

inline void expect_close(const std::vector<float>& got, const std::vector<float>& expected, double bound,
                         const std::string& what) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  Errors errors;
  for (size_t i = 0; i < got.size(); ++i) errors.add(static_cast<int64_t>(i), got[i], expected[i]);
  expect_nmse(errors, bound, what);
}

}  // namespace llamita::test
