#include "formats/gguf_part.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/cat.h"
#include "base/checked.h"
#include "formats/printable.h"

namespace llamita::gguf {

namespace {

// Value types as the file numbers them.
enum ValueType : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64
};

// What a tensor type that is not read here is called, for the error.
std::string_view foreign_type_name(uint32_t id) {
  switch (id) {
    case 4: return "Q4_2, removed from GGUF";
    case 5: return "Q4_3, removed from GGUF";
    case 9: return "Q8_1, not for files";
    case 15: return "Q8_K, not for files";
    case 16: return "IQ2_XXS";
    case 17: return "IQ2_XS";
    case 18: return "IQ3_XXS";
    case 19: return "IQ1_S";
    case 21: return "IQ3_S";
    case 22: return "IQ2_S";
    case 23: return "IQ4_XS";
    case 29: return "IQ1_M";
    case 31: return "Q4_0_4_4, removed from GGUF";
    case 32: return "Q4_0_4_8, removed from GGUF";
    case 33: return "Q4_0_8_8, removed from GGUF";
    case 34: return "TQ1_0";
    case 35: return "TQ2_0";
    case 36: return "IQ4_NL_4_4, removed from GGUF";
    case 37: return "IQ4_NL_4_8, removed from GGUF";
    case 38: return "IQ4_NL_8_8, removed from GGUF";
    case 39: return "MXFP4";
    case 40: return "NVFP4";
    case 41: return "Q1_0";
    case 42: return "Q2_0";
    default: return "unknown";
  }
}

}  // namespace

PartReader::PartReader(std::span<const std::byte> bytes, const std::string& source,
                       std::shared_ptr<const MappedFile> file)
    : bytes_(bytes), reader_(bytes, source), mapped_(std::move(file)) {
  out_.path_ = source;
}

File PartReader::read() {
  read_header();
  for (uint64_t i = 0; i < key_count_; ++i) read_key_value();
  if (const auto alignment = out_.get_int("general.alignment")) {
    if (*alignment < 1 || *alignment > Limits::kAlignment || (*alignment & (*alignment - 1)) != 0) {
      reader_.fail(cat("general.alignment is ", *alignment, "; a power of two up to ", Limits::kAlignment,
                       " was expected"));
    }
    alignment_ = static_cast<uint64_t>(*alignment);
  }
  for (uint64_t i = 0; i < tensor_count_; ++i) read_tensor();
  if (tensor_count_ > 0) place_tensors();
  return std::move(out_);
}

void PartReader::read_header() {
  if (reader_.left() < 4 || std::memcmp(bytes_.data(), "GGUF", 4) != 0) {
    reader_.fail("this is no GGUF file, which would begin with the letters GGUF");
  }
  reader_.take(4, "magic");
  const auto version = reader_.read<uint32_t>("version");
  if (version != 0 && (version & 0xffff) == 0) {
    reader_.fail("a big-endian GGUF file; convert the model again on a little-endian machine");
  }
  if (version == 1) reader_.fail("GGUF version 1, which was short-lived; convert the model again");
  if (version != 2 && version != 3) reader_.fail(cat("GGUF version ", version, "; 2 and 3 are read"));
  out_.version_ = version;
  tensor_count_ = reader_.read<uint64_t>("tensor count");
  key_count_ = reader_.read<uint64_t>("key count");
  if (tensor_count_ > Limits::kTensors) {
    reader_.fail(cat(tensor_count_, " tensors; the limit is ", Limits::kTensors));
  }
  if (key_count_ > Limits::kKeys) reader_.fail(cat(key_count_, " keys; the limit is ", Limits::kKeys));
  // A key takes at least its length, its type and one byte; refusing here gives the better error.
  if (key_count_ > reader_.left() / 13) {
    reader_.fail(cat(key_count_, " keys are more than the file has room for"));
  }
}

std::string PartReader::read_string(std::string_view what, uint64_t limit) {
  const auto length = reader_.read<uint64_t>(what);
  if (length > limit) reader_.fail(cat(what, " of ", length, " bytes; the limit is ", limit));
  return std::string(reader_.take_text(length, what));
}

void PartReader::read_key_value() {
  const std::string key = read_string("key", Limits::kKeyBytes);
  const auto type = reader_.read<uint32_t>("value type");
  Value value = type == kArray ? read_array(key) : read_value(type, key);
  if (!out_.values_.emplace(key, std::move(value)).second) {
    reader_.fail(cat("the key ", printable(key), " is there twice"));
  }
  out_.keys_.push_back(key);
}

Value PartReader::read_value(uint32_t type, const std::string& key) {
  switch (type) {
    case kF32: return static_cast<double>(reader_.read<float>("value"));
    case kF64: return reader_.read<double>("value");
    case kBool: return read_bool(key);
    case kString: return read_string(printable(key), Limits::kStringBytes);
    default: return read_integer(type, key);
  }
}

int64_t PartReader::read_integer(uint32_t type, const std::string& key) {
  switch (type) {
    case kU8: return reader_.read<uint8_t>("value");
    case kI8: return reader_.read<int8_t>("value");
    case kU16: return reader_.read<uint16_t>("value");
    case kI16: return reader_.read<int16_t>("value");
    case kU32: return reader_.read<uint32_t>("value");
    case kI32: return reader_.read<int32_t>("value");
    case kI64: return reader_.read<int64_t>("value");
    case kU64: {
      const auto value = reader_.read<uint64_t>("value");
      if (!std::in_range<int64_t>(value)) reader_.fail(cat(printable(key), " is ", value, ", above 2^63-1"));
      return static_cast<int64_t>(value);
    }
    default: reader_.fail(cat(printable(key), " has the unknown value type ", type));
  }
}

bool PartReader::read_bool(const std::string& key) {
  const auto value = reader_.read<uint8_t>("value");
  if (value > 1) reader_.fail(cat(printable(key), " is a boolean of ", value, "; 0 or 1 was expected"));
  return value == 1;
}

template <class Number, class Element>
std::vector<Element> PartReader::read_numbers(uint64_t count) {
  const auto bytes = reader_.take(checked_mul<uint64_t>(count, sizeof(Number), "array bytes"), "array");
  std::vector<Element> out(count);
  for (size_t i = 0; i < count; ++i) {
    Number number;
    std::memcpy(&number, bytes.data() + i * sizeof number, sizeof number);
    out[i] = static_cast<Element>(number);
  }
  return out;
}

Value PartReader::read_array(const std::string& key) {
  const auto type = reader_.read<uint32_t>("array type");
  const auto count = reader_.read<uint64_t>("array length");
  if (count > Limits::kArrayElements) {
    reader_.fail(cat(printable(key), " has ", count, " elements; the limit is ", Limits::kArrayElements));
  }
  // Every element takes at least a byte, a string at least its length: no reserve beyond what is there.
  const uint64_t element_bytes = type == kString ? sizeof(uint64_t) : 1;
  if (count > reader_.left() / element_bytes) {
    reader_.fail(cat(printable(key), " has ", count, " elements, more than the file has room for"));
  }
  switch (type) {
    case kU8: return read_numbers<uint8_t, int64_t>(count);
    case kI8: return read_numbers<int8_t, int64_t>(count);
    case kU16: return read_numbers<uint16_t, int64_t>(count);
    case kI16: return read_numbers<int16_t, int64_t>(count);
    case kU32: return read_numbers<uint32_t, int64_t>(count);
    case kI32: return read_numbers<int32_t, int64_t>(count);
    case kI64: return read_numbers<int64_t, int64_t>(count);
    case kF32: return read_numbers<float, double>(count);
    case kF64: return read_numbers<double, double>(count);
    case kU64: {
      std::vector<int64_t> out;
      for (uint64_t i = 0; i < count; ++i) out.push_back(read_integer(kU64, key));
      return out;
    }
    case kBool: {
      std::vector<bool> out;
      for (uint64_t i = 0; i < count; ++i) out.push_back(read_bool(key));
      return out;
    }
    case kString: {
      std::vector<std::string> out;
      out.reserve(count);
      const std::string what = printable(key);
      for (uint64_t i = 0; i < count; ++i) out.push_back(read_string(what, Limits::kStringBytes));
      return out;
    }
    case kArray: reader_.fail(cat(printable(key), " is an array of arrays, which is not read"));
    default: reader_.fail(cat(printable(key), " is an array of the unknown value type ", type));
  }
}

void PartReader::read_tensor() {
  TensorInfo tensor;
  tensor.name = read_string("tensor name", Limits::kKeyBytes);
  if (!tensor_names_.insert(tensor.name).second) {
    reader_.fail(cat("the tensor ", printable(tensor.name), " is there twice"));
  }
  tensor.shape = read_shape(tensor.name);
  tensor.dtype = read_tensor_type(tensor.name);
  const auto offset = reader_.read<uint64_t>("tensor offset");
  if (offset % alignment_ != 0) {
    reader_.fail(cat("the offset ", offset, " of ", printable(tensor.name),
                     " is no multiple of the alignment ", alignment_));
  }
  tensor.file = mapped_;
  extents_.push_back({offset, tensor_bytes(tensor)});
  out_.tensors_.push_back(std::move(tensor));
}

std::vector<int64_t> PartReader::read_shape(const std::string& name) {
  const auto rank = reader_.read<uint32_t>("dimension count");
  if (rank > Limits::kDimensions) {
    reader_.fail(cat(printable(name), " has ", rank, " dimensions; the limit is ", Limits::kDimensions));
  }
  std::vector<int64_t> shape(rank);
  for (uint32_t axis = rank; axis-- > 0;) {
    const auto size = reader_.read<uint64_t>("dimension");
    if (size == 0 || !std::in_range<int64_t>(size)) {
      reader_.fail(cat(printable(name), " has a dimension of ", size));
    }
    shape[axis] = static_cast<int64_t>(size);
  }
  return shape;
}

DType PartReader::read_tensor_type(const std::string& name) {
  const auto id = reader_.read<uint32_t>("tensor type");
  const auto dtype = dtype_of_ggml(id);
  if (!dtype) {
    reader_.fail(cat("the tensor ", printable(name), " has type ", id, " (", foreign_type_name(id),
                     "), which is not read here; quantise the model to another type"));
  }
  return *dtype;
}

uint64_t PartReader::tensor_bytes(const TensorInfo& tensor) const {
  const DTypeInfo& format = info(tensor.dtype);
  const int64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
  if (row % format.block_elems != 0) {
    reader_.fail(cat(printable(tensor.name), " has rows of ", row, " elements, which are no whole ",
                     format.name, " blocks of ", format.block_elems));
  }
  const std::string what = cat(reader_.source(), ": bytes of ", printable(tensor.name));
  int64_t bytes = checked_mul<int64_t>(row / format.block_elems, format.block_bytes, what);
  for (size_t axis = 0; axis + 1 < tensor.shape.size(); ++axis) {
    bytes = checked_mul<int64_t>(bytes, tensor.shape[axis], what);
  }
  return static_cast<uint64_t>(bytes);
}

void PartReader::place_tensors() {
  const auto data_begin = checked_align_up<uint64_t>(reader_.offset(), alignment_, "data section");
  if (data_begin > bytes_.size()) reader_.fail("the file ends before its data section");
  const auto data = bytes_.subspan(data_begin);
  for (size_t i = 0; i < extents_.size(); ++i) {
    TensorInfo& tensor = out_.tensors_[i];
    const auto [begin, bytes] = extents_[i];
    if (begin > data.size() || bytes > data.size() - begin) {
      throw Error(cat(reader_.source(), ", offset ", data_begin, ": the tensor ", printable(tensor.name),
                      " has ", bytes, " bytes at ", begin, " of the data section, which is only ",
                      data.size(), " bytes long; the file is damaged or its download incomplete"));
    }
    tensor.data = data.subspan(begin, bytes);
  }
  refuse_overlaps();
}

// A few megabytes of file must not become terabytes of weights, so no byte belongs to two tensors.
void PartReader::refuse_overlaps() const {
  std::vector<size_t> order(extents_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return extents_[a].begin < extents_[b].begin; });
  for (size_t i = 1; i < order.size(); ++i) {
    const Extent& before = extents_[order[i - 1]];
    if (extents_[order[i]].begin < before.begin + before.bytes) {
      throw Error(cat(reader_.source(), ": the tensors ", printable(out_.tensors_[order[i - 1]].name),
                      " and ", printable(out_.tensors_[order[i]].name), " overlap"));
    }
  }
}

}  // namespace llamita::gguf
