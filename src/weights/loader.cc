#include "weights/loader.h"

#include <array>
#include <cstring>

#include "base/cat.h"
#include "base/log.h"
#include "llamita/error.h"
#include "quant/interleave.h"
#include "quant/unpack.h"
#include "weights/packed_cache.h"
#include "weights/stored_rows.h"

namespace llamita {

namespace {

std::string text(std::span<const int64_t> shape) {
  std::string out = "(";
  for (size_t i = 0; i < shape.size(); ++i) out += cat(i > 0 ? ", " : "", shape[i]);
  return out + ")";
}

// Kernels read plain elements through pointers of their type and blocks through byte pointers.
size_t required_alignment(DType dtype) {
  return is_block(dtype) ? 1 : static_cast<size_t>(info(dtype).block_bytes);
}

// Asks for every page once, so that progress is real and the first token does not wait for the disk.
void touch_pages(std::span<const std::byte> data) {
  constexpr size_t kPage = 4096;
  volatile std::byte sink{};
  for (size_t at = 0; at < data.size(); at += kPage) sink = data[at];
  static_cast<void>(sink);
}

}  // namespace

WeightLoader::WeightLoader(const TensorFiles& files, Progress progress, const Placement& placement,
                           PackedCache* cache)
    : files_(files),
      progress_(std::move(progress)),
      placement_(placement),
      cache_(cache),
      total_bytes_(files.total_bytes()) {}

WeightLoader::WeightLoader(const TensorFiles& files, const Placement& placement, DeviceWeights& device)
    : files_(files), placement_(placement), device_(&device), total_bytes_(files.total_bytes()) {}

WeightLoader WeightLoader::measuring(const TensorFiles& files, const Placement& placement) {
  WeightLoader loader(files);
  loader.placement_ = placement;
  loader.measuring_ = true;
  return loader;
}

const StoredTensor& WeightLoader::take(const std::string& name, std::span<const int64_t> shape) {
  if (files_.is_made_up()) return invent(name, shape);
  const StoredTensor* tensor = files_.find(name);
  if (tensor == nullptr) {
    throw Error(cat(files_.path(), ": weight ", files_.stored_name(name), " is missing, expected shape ",
                    text(shape)));
  }
  if (!std::equal(shape.begin(), shape.end(), tensor->shape.begin(), tensor->shape.end())) {
    throw Error(cat(files_.path(), ": weight ", tensor->name, " has shape ", text(tensor->shape),
                    ", expected ", text(shape)));
  }
  LLAMITA_CHECK(taken_.insert(tensor).second, "weight ", name, " is taken twice");
  return *tensor;
}

void WeightLoader::count(const StoredTensor& tensor) {
  done_bytes_ += static_cast<int64_t>(tensor.data.size());
  int64_t elems = 1;
  for (const int64_t dim : tensor.shape) elems *= dim;
  parameters_ += elems;
  if (progress_) progress_(done_bytes_, total_bytes_);
}

const StoredTensor& WeightLoader::take_matrix(const std::string& name, std::span<const int64_t> shape) {
  const StoredTensor& tensor = take(name, shape);
  if (!is_block(tensor.dtype) && !is_float(tensor.dtype)) {
    throw Error(cat(files_.path(), ": weight ", tensor.name, " is ", llamita::name(tensor.dtype),
                    ", which is no format for a matrix here"));
  }
  return tensor;
}

Storage WeightLoader::load(const StoredTensor& tensor, const PartSpec& part, int64_t cols, Orientation stored,
                           quant::Layout layout) {
  const bool interleave = layout == quant::Layout::interleaved;
  const bool copy = interleave || must_copy(tensor, part, stored);
  if (copy || files_.is_made_up()) copied_bytes_ += stored_bytes(tensor);
  if (measuring_) return {};
  if (files_.is_made_up()) return made_up_storage(tensor);
  if (!copy) {
    touch_pages(tensor.data);
    return Storage::borrow(tensor.data.data(), tensor.data.size(), tensor.file);
  }
  const Packing packing = interleave                            ? Packing::interleaved
                          : stored == Orientation::in_out       ? Packing::turned
                          : adjacent_head_dim(files_, part) > 0 ? Packing::reordered
                                                                : Packing::moved;
  const PackedPart packed{tensor.name, part.label, tensor.dtype, packing, adjacent_head_dim(files_, part),
                          part.rows,   cols};
  if (cache_ != nullptr) {
    if (Storage found = cache_->find(packed); found.data() != nullptr) return found;
  }
  Storage out = interleave ? interleaved(tensor, part, cols) : copied(tensor, part, cols, stored);
  if (tensor.file != nullptr) tensor.file->release(tensor.data);  // the file's pages are not needed again
  if (cache_ != nullptr) cache_->keep(packed, out);
  return out;
}

// Whether the file has the weight in another order, or at other addresses, than kernels want it. Throws Error
// for what cannot be turned.
bool WeightLoader::must_copy(const StoredTensor& tensor, const PartSpec& part, Orientation stored) const {
  const bool reorder = adjacent_head_dim(files_, part) > 0;
  LLAMITA_CHECK(!(reorder && stored == Orientation::in_out), "a transposed weight with rotary rows");
  if (stored == Orientation::in_out && is_block(tensor.dtype)) {
    throw Error(cat(files_.path(), ": weight ", tensor.name, " is stored transposed and in blocks (",
                    name(tensor.dtype), "), which cannot be turned without loss"));
  }
  const auto address = reinterpret_cast<uintptr_t>(tensor.data.data());
  return reorder || stored == Orientation::in_out || address % required_alignment(tensor.dtype) != 0;
}

// The weight's bytes in the order of rows and columns that kernels want.
Storage WeightLoader::copied(const StoredTensor& tensor, const PartSpec& part, int64_t cols,
                             Orientation stored) const {
  const std::byte* data = tensor.data.data();
  const size_t bytes = tensor.data.size();
  const bool reorder = adjacent_head_dim(files_, part) > 0;
  if (stored == Orientation::in_out) {
    Storage out = Storage::allocate(bytes);
    transpose(data, static_cast<std::byte*>(out.data()), part.rows, cols, info(tensor.dtype).block_bytes);
    return out;
  }
  if (reorder) {
    Storage out = Storage::allocate(bytes);
    const auto row = static_cast<size_t>(row_bytes(tensor.dtype, cols));
    for (int64_t n = 0; n < part.rows; ++n) {
      std::memcpy(static_cast<std::byte*>(out.data()) + static_cast<size_t>(n) * row,
                  data + static_cast<size_t>(adjacent_row(n, part.rotary_head_dim)) * row, row);
    }
    return out;
  }
  Storage out = Storage::allocate(bytes);
  std::memcpy(out.data(), data, bytes);
  return out;
}

// The rows in groups of eight, in the order that kernels want. A panel of the file is released as soon as it
// is copied, but for rotary rows, which are taken from all over a head.
Storage WeightLoader::interleaved(const StoredTensor& tensor, const PartSpec& part, int64_t cols) const {
  constexpr size_t kPanel = size_t{4} << 20;
  const bool reorder = part.rotary_head_dim > 0 && files_.rotary_pairs_adjacent();
  const auto row = static_cast<size_t>(row_bytes(tensor.dtype, cols));
  Storage out = Storage::allocate(tensor.data.size());
  size_t released = 0;
  const auto release_to = [&](size_t end) {
    if (tensor.file != nullptr) tensor.file->release(tensor.data.subspan(released, end - released));
    released = end;
  };
  for (int64_t n = 0; n < part.rows; n += quant::kGroupRows) {
    std::array<const std::byte*, quant::kGroupRows> rows;
    for (int64_t r = 0; r < quant::kGroupRows; ++r) {
      const int64_t from = reorder ? adjacent_row(n + r, part.rotary_head_dim) : n + r;
      rows[static_cast<size_t>(r)] = tensor.data.data() + static_cast<size_t>(from) * row;
    }
    const size_t at = static_cast<size_t>(n) * row;
    quant::interleave_group(tensor.dtype, rows, cols, static_cast<std::byte*>(out.data()) + at);
    if (!reorder && at - released >= kPanel) release_to(at);
  }
  release_to(tensor.data.size());
  return out;
}

// Parts of one weight share a layout.
quant::Layout WeightLoader::layout_of(std::span<const PartSpec> parts, Orientation stored) const {
  if (stored == Orientation::in_out || placement_.on_gpu()) return quant::Layout::rows;
  for (const PartSpec& part : parts) {
    const StoredTensor* tensor = files_.find(part.name);
    if (tensor == nullptr || !quant::can_interleave(tensor->dtype, part.rows)) return quant::Layout::rows;
  }
  return placement_.layout;
}

quant::Weight WeightLoader::linear(std::span<const PartSpec> parts, int64_t cols, Orientation stored) {
  quant::Weight weight;
  weight.cols = cols;
  std::vector<const StoredTensor*> on_gpu;
  weight.layout = layout_of(parts, stored);
  for (const PartSpec& part : parts) {
    const std::array<int64_t, 2> shape =
        stored == Orientation::out_in ? std::array{part.rows, cols} : std::array{cols, part.rows};
    const StoredTensor& tensor = take_matrix(part.name, shape);
    count(tensor);
    if (placement_.on_gpu()) {
      on_gpu.push_back(&tensor);
      continue;
    }
    weight.parts.push_back(
        {part.label, tensor.dtype, part.rows, load(tensor, part, cols, stored, weight.layout)});
    bytes_ += stored_bytes(tensor);
  }
  if (placement_.on_gpu()) place(on_gpu, parts, stored, weight);
  return weight;
}

Vector WeightLoader::vector(std::span<const PartSpec> parts) {
  int64_t total = 0;
  std::vector<const StoredTensor*> tensors;
  for (const PartSpec& part : parts) {
    const std::array<int64_t, 1> shape{part.rows};
    const StoredTensor& tensor = take(part.name, shape);
    if (!is_float(tensor.dtype)) {
      throw Error(cat(files_.path(), ": weight ", tensor.name, " is ", name(tensor.dtype),
                      ", expected F32, F16 or BF16"));
    }
    count(tensor);
    tensors.push_back(&tensor);
    total += part.rows;
  }
  if (placement_.on_gpu()) return place_vector(tensors, parts);
  Vector out{Storage::allocate(static_cast<size_t>(total) * sizeof(float)), {}};
  auto* values = static_cast<float*>(out.storage.data());
  out.values = Tensor::of(values, {total});
  for (size_t i = 0; i < parts.size(); ++i) {
    read_vector(*tensors[i], adjacent_head_dim(files_, parts[i]), values);
    values += parts[i].rows;
  }
  bytes_ += out.values.bytes();
  copied_bytes_ += out.values.bytes();
  return out;
}

Vector WeightLoader::table(const std::string& name, int64_t rows, int64_t cols) {
  const std::array<int64_t, 2> shape{rows, cols};
  const StoredTensor& tensor = take_matrix(name, shape);
  count(tensor);
  Vector out;
  if (placement_.on_gpu()) {
    const StoredTensor* const one = &tensor;
    const PartSpec part{"", name, rows * cols};
    out = place_vector(std::span(&one, 1), std::span(&part, 1));
    out.values = Tensor(out.storage.data(), DType::f32, {rows, cols}, placement_.device);
    return out;
  }
  out.storage = Storage::allocate(static_cast<size_t>(rows * cols) * sizeof(float));
  out.values = Tensor(out.storage.data(), DType::f32, {rows, cols});
  read_vector(tensor, 0, out.values.ptr<float>());
  bytes_ += out.values.bytes();
  copied_bytes_ += out.values.bytes();
  return out;
}

quant::Weight WeightLoader::convolution(const std::string& name, int64_t rows, int64_t channels,
                                        int64_t side) {
  constexpr int64_t kWhole = 32;
  const std::array<int64_t, 4> shape{rows, channels, side, side};
  const StoredTensor& tensor = take_matrix(name, shape);
  if (!is_float(tensor.dtype)) {
    throw Error(cat(files_.path(), ": weight ", tensor.name, " is ", llamita::name(tensor.dtype),
                    ", expected F32, F16 or BF16"));
  }
  count(tensor);
  const int64_t stored_cols = channels * side * side;
  quant::Weight weight;
  weight.cols = (stored_cols + kWhole - 1) / kWhole * kWhole;
  if (placement_.on_gpu()) {
    place_convolution(tensor, weight);
    return weight;
  }
  const auto stored_row = static_cast<size_t>(row_bytes(tensor.dtype, stored_cols));
  const auto row = static_cast<size_t>(row_bytes(tensor.dtype, weight.cols));
  Storage storage;
  if (!measuring_) {
    storage = Storage::allocate(static_cast<size_t>(rows) * row);
    const Storage made_up = files_.is_made_up() ? made_up_storage(tensor) : Storage();
    const auto* from =
        files_.is_made_up() ? static_cast<const std::byte*>(made_up.data()) : tensor.data.data();
    auto* to = static_cast<std::byte*>(storage.data());
    std::memset(to, 0, storage.bytes());
    for (int64_t n = 0; n < rows; ++n, from += stored_row, to += row) std::memcpy(to, from, stored_row);
  }
  weight.parts.push_back({"patches", tensor.dtype, rows, std::move(storage)});
  bytes_ += rows * static_cast<int64_t>(row);
  copied_bytes_ += rows * static_cast<int64_t>(row);
  return weight;
}

Vector WeightLoader::computed(std::span<const float> values, int64_t rows, int64_t cols) {
  LLAMITA_CHECK(rows * cols == static_cast<int64_t>(values.size()), values.size(), " values for (", rows,
                ", ", cols, ")");
  Vector out;
  if (placement_.on_gpu()) {
    out.storage = room_on_gpu(values.size_bytes());
    out.values = Tensor(out.storage.data(), DType::f32, {rows, cols}, placement_.device);
    if (device_ != nullptr) {
      const auto kept = std::make_shared<const std::vector<float>>(values.begin(), values.end());
      const auto bytes = static_cast<size_t>(cols) * sizeof(float);
      device_->upload(out.storage.data(), rows, bytes, [=](std::byte* to, int64_t begin, int64_t end) {
        std::memcpy(to, kept->data() + begin * cols, static_cast<size_t>(end - begin) * bytes);
      });
    }
    return out;
  }
  out.storage = Storage::allocate(values.size_bytes());
  if (!values.empty()) std::memcpy(out.storage.data(), values.data(), values.size_bytes());
  out.values = Tensor(out.storage.data(), DType::f32, {rows, cols});
  return out;
}

void WeightLoader::skip_duplicate(const std::string& name, const std::string& of, int64_t rows,
                                  int64_t cols) {
  if (!has(name)) return;
  const std::array<int64_t, 2> shape{rows, cols};
  const StoredTensor& tensor = take_matrix(name, shape);
  if (measuring_) return;
  const StoredTensor& used = *files_.find(of);
  const auto size = tensor.data.size();
  if (tensor.dtype != used.dtype || std::memcmp(tensor.data.data(), used.data.data(), size) != 0) {
    log_warning(files_.path(), ": ", tensor.name, " differs from ", used.name,
                ", but the configuration says that they are one (tie_word_embeddings); it is not used");
  }
  if (tensor.file != nullptr) tensor.file->release(tensor.data);
  done_bytes_ += static_cast<int64_t>(size);
  if (progress_) progress_(done_bytes_, total_bytes_);
}

void WeightLoader::skip(std::string_view name) {
  if (const StoredTensor* tensor = files_.find(name)) {
    taken_.insert(tensor);
    done_bytes_ += static_cast<int64_t>(tensor->data.size());
  }
}

void WeightLoader::skip_all(std::string_view prefix) {
  for (const std::string& name : files_.names_below(prefix)) skip(name);
}

void WeightLoader::finish() const {
  for (const StoredTensor& tensor : files_.tensors()) {
    if (taken_.contains(&tensor)) continue;
    throw Error(cat(files_.path(), ": weight ", tensor.name, " with shape ", text(tensor.shape),
                    " belongs to no part of a ", files_.architecture(), " model"));
  }
}

}  // namespace llamita
