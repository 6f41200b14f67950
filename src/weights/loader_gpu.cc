// The part of WeightLoader that puts weights on a GPU, and the weights that are made up.
#include <algorithm>
#include <array>
#include <mutex>

#include "base/cat.h"
#include "base/log.h"
#include "tensor/float16.h"
#include "weights/loader.h"
#include "weights/stored_rows.h"

namespace llamita {

namespace {

// The blocks whose packed bytes GPU kernels read.
constexpr DType kPackedOnGpu[] = {DType::q4_0, DType::q4_1, DType::q8_0, DType::q4_k, DType::q6_k};

void say_unpacked(DType stored, DType kept) {
  static std::mutex mutex;
  static std::array<bool, kDTypeCount> said{};
  const std::lock_guard lock(mutex);
  if (std::exchange(said[static_cast<size_t>(stored)], true)) return;
  log_warning("weights in ", name(stored), " have no GPU kernel: they are unpacked to ", name(kept),
              " and take ", info(kept).block_bytes, " bytes an element there");
}

template <class Element>
void round_row(const float* values, int64_t elems, Element (*round)(float), std::byte* out) {
  for (int64_t i = 0; i < elems; ++i) {
    const Element element = round(values[i]);
    std::memcpy(out + i * static_cast<int64_t>(sizeof element), &element, sizeof element);
  }
}

// One row from its stored format to the one it is kept in.
void convert_row(DType stored, const std::byte* row, DType kept, int64_t elems, std::vector<float>& scratch,
                 std::byte* out) {
  scratch.resize(static_cast<size_t>(elems));
  quant::unpack_row(stored, row, scratch.data(), elems);
  if (kept == DType::bf16) return round_row<bf16>(scratch.data(), elems, to_bf16, out);
  LLAMITA_CHECK(kept == DType::f16, "weights become BF16 or F16, not ", name(kept));
  round_row<f16>(scratch.data(), elems, to_f16, out);
}

// What writes rows of a stored matrix in the order and format in which they are kept. Holds the file.
DeviceWeights::Fill rows_of(const StoredTensor& tensor, int head_dim, Orientation orientation, int64_t cols,
                            DType kept) {
  return [data = tensor.data, file = tensor.file, stored = tensor.dtype, rows = elements(tensor) / cols,
          head_dim, orientation, cols, kept](std::byte* out, int64_t begin, int64_t end) {
    const auto in_bytes = static_cast<size_t>(row_bytes(stored, cols));
    const auto out_bytes = static_cast<size_t>(row_bytes(kept, cols));
    std::vector<float> scratch;
    std::vector<std::byte> turned(orientation == Orientation::in_out ? in_bytes : 0);
    if (orientation == Orientation::out_in && head_dim == 0 && stored == kept) {
      std::memcpy(out, data.data() + static_cast<size_t>(begin) * in_bytes,
                  static_cast<size_t>(end - begin) * in_bytes);
      return;
    }
    for (int64_t n = begin; n < end; ++n, out += out_bytes) {
      const int64_t at = head_dim > 0 ? adjacent_row(n, head_dim) : n;
      const std::byte* row = data.data() + static_cast<size_t>(at) * in_bytes;
      if (orientation == Orientation::in_out) {
        const auto size = static_cast<size_t>(info(stored).block_bytes);
        for (int64_t k = 0; k < cols; ++k)
          std::memcpy(turned.data() + static_cast<size_t>(k) * size,
                      data.data() + static_cast<size_t>(k * rows + n) * size, size);
        row = turned.data();
      }
      if (stored == kept) {
        std::memcpy(out, row, out_bytes);
      } else {
        convert_row(stored, row, kept, cols, scratch, out);
      }
    }
  };
}

uint64_t hash(std::string_view text) {  // FNV-1a
  uint64_t value = 0xcbf29ce484222325u;
  for (const char c : text) value = (value ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return value;
}

}  // namespace

DType Placement::format_of(DType stored) const {
  if (!on_gpu() || stored == DType::f16 || stored == DType::bf16) return stored;
  const bool packed =
      std::find(std::begin(kPackedOnGpu), std::end(kPackedOnGpu), stored) != std::end(kPackedOnGpu);
  return packed ? stored : activation;
}

Storage WeightLoader::room_on_gpu(size_t bytes) {
  const auto room = static_cast<int64_t>(DeviceWeights::aligned(bytes));
  device_bytes_ += room;
  bytes_ += static_cast<int64_t>(bytes);
  copied_bytes_ += room;
  return device_ == nullptr ? Storage() : device_->take(bytes);
}

// All parts in one piece of memory, behind each other: those of one format are one matrix to a kernel. Where
// the format changes the next part begins on a border of its own.
void WeightLoader::place(std::span<const StoredTensor* const> tensors, std::span<const PartSpec> parts,
                         Orientation stored, quant::Weight& weight) {
  std::vector<size_t> offsets;
  size_t end = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    const DType kept = placement_.format_of(tensors[i]->dtype);
    if (kept != tensors[i]->dtype && is_block(tensors[i]->dtype) && !measuring_)
      say_unpacked(tensors[i]->dtype, kept);
    if (!weight.parts.empty() && weight.parts.back().format != kept) end = DeviceWeights::aligned(end);
    offsets.push_back(end);
    weight.parts.push_back({parts[i].label, kept, parts[i].rows, {}});
    end += static_cast<size_t>(parts[i].rows * row_bytes(kept, weight.cols));
  }
  const Storage all = room_on_gpu(end);
  if (device_ == nullptr) return;
  const auto owner = std::make_shared<const Storage>(all);
  for (size_t i = 0; i < parts.size(); ++i) {
    quant::Part& part = weight.parts[i];
    part.storage =
        Storage::borrow(static_cast<std::byte*>(all.data()) + offsets[i],
                        static_cast<size_t>(part.rows * row_bytes(part.format, weight.cols)), owner);
    place_part(*tensors[i], parts[i], weight.cols, stored, part);
  }
}

void WeightLoader::place_convolution(const StoredTensor& tensor, quant::Weight& weight) {
  const int64_t rows = tensor.shape[0], stored_cols = elements(tensor) / rows;
  const DType kept = placement_.format_of(tensor.dtype);
  const Storage storage = room_on_gpu(static_cast<size_t>(rows * row_bytes(kept, weight.cols)));
  weight.parts.push_back({"patches", kept, rows, storage});
  if (device_ == nullptr) return;
  // What multiplies the padding's zeros need only be finite.
  if (files_.is_made_up())
    return device_->make_up(storage.data(), kept, rows * weight.cols, numbers_for(tensor));
  const auto row = static_cast<size_t>(row_bytes(kept, weight.cols));
  const auto filled = static_cast<size_t>(row_bytes(kept, stored_cols));
  DeviceWeights::Fill fill = rows_of(tensor, 0, Orientation::out_in, stored_cols, kept);
  device_->upload(storage.data(), rows, row, [=](std::byte* to, int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n, to += row) {
      fill(to, n, n + 1);
      std::memset(to + filled, 0, row - filled);
    }
  });
}

void WeightLoader::place_part(const StoredTensor& tensor, const PartSpec& part, int64_t cols,
                              Orientation stored, quant::Part& placed) {
  if (files_.is_made_up())
    return device_->make_up(placed.storage.data(), placed.format, part.rows * cols, numbers_for(tensor));
  must_copy(tensor, part, stored);  // refuses what cannot be turned
  device_->upload(placed.storage.data(), part.rows, static_cast<size_t>(row_bytes(placed.format, cols)),
                  rows_of(tensor, adjacent_head_dim(files_, part), stored, cols, placed.format));
}

Vector WeightLoader::place_vector(std::span<const StoredTensor* const> tensors,
                                  std::span<const PartSpec> parts) {
  int64_t total = 0;
  for (const PartSpec& part : parts) total += part.rows;
  Vector out;
  out.storage = room_on_gpu(static_cast<size_t>(total) * sizeof(float));
  out.values = Tensor(out.storage.data(), DType::f32, {total}, placement_.device);
  if (device_ == nullptr) return out;
  auto* to = static_cast<std::byte*>(out.storage.data());
  for (size_t i = 0; i < parts.size(); ++i) {
    const int64_t n = parts[i].rows;
    const int head_dim = adjacent_head_dim(files_, parts[i]);
    device_->upload(to, 1, static_cast<size_t>(n) * sizeof(float),
                    [tensor = *tensors[i], head_dim](std::byte* staging, int64_t, int64_t) {
                      read_vector(tensor, head_dim, reinterpret_cast<float*>(staging));
                    });
    to += static_cast<size_t>(n) * sizeof(float);
  }
  return out;
}

// The tensor that a file would have had.
const StoredTensor& WeightLoader::invent(const std::string& name, std::span<const int64_t> shape) {
  const DType dtype = placement_.on_gpu() ? placement_.activation : DType::bf16;
  invented_.push_back({name, dtype, {shape.begin(), shape.end()}, {}, nullptr});
  return invented_.back();
}

// Matrices with the deviation 0.02 of common initialisations, norm weights near one.
MadeUp numbers_for(const StoredTensor& tensor) {
  const bool is_norm = tensor.shape.size() == 1 && tensor.name.ends_with(".weight");
  return {.seed = hash(tensor.name), .mean = is_norm ? 1.0f : 0.0f, .spread = is_norm ? 0.1f : 0.0346f};
}

Storage made_up_storage(const StoredTensor& tensor) {
  LLAMITA_CHECK(tensor.dtype == DType::bf16, "made-up weights of a CPU are BF16");
  const int64_t elems = elements(tensor);
  Storage out = Storage::allocate(static_cast<size_t>(elems) * sizeof(bf16));
  const MadeUp numbers = numbers_for(tensor);
  auto* values = static_cast<bf16*>(out.data());
  for (int64_t i = 0; i < elems; ++i) values[i] = to_bf16(made_up_value(numbers, static_cast<uint64_t>(i)));
  return out;
}

}  // namespace llamita
