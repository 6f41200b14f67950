#include "formats/safetensors.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <set>
#include <unordered_set>
#include <utility>

#include "base/cat.h"
#include "base/checked.h"
#include "base/reader.h"
#include "formats/json.h"
#include "formats/printable.h"
#include "llamita/error.h"

namespace llamita::safetensors {

namespace {

constexpr std::array<std::pair<std::string_view, DType>, 10> kDTypes = {{{"F32", DType::f32},
                                                                         {"F16", DType::f16},
                                                                         {"BF16", DType::bf16},
                                                                         {"F64", DType::f64},
                                                                         {"I8", DType::i8},
                                                                         {"I16", DType::i16},
                                                                         {"I32", DType::i32},
                                                                         {"I64", DType::i64},
                                                                         {"U8", DType::u8},
                                                                         {"BOOL", DType::u8}}};

// A tensor with its place, relative to the data.
struct Entry {
  TensorInfo tensor;
  uint64_t begin;
  uint64_t end;
};

const Json& member(const Json& entry, std::string_view key, const std::string& what) {
  const Json* found = entry.find(key);
  if (found == nullptr) throw Error(cat(what, " has no ", key));
  return *found;
}

DType read_dtype(const Json& entry, const std::string& what) {
  const std::string& name = member(entry, "dtype", what).as_string(cat(what, ".dtype"));
  for (const auto& [known, dtype] : kDTypes) {
    if (known == name) return dtype;
  }
  throw Error(cat(what, " has dtype ", printable(name),
                  ", which is not read here; F32, F16, BF16, F64, I8 to I64, U8 and BOOL are"));
}

int64_t read_count(const Json& value, const std::string& what) {
  const int64_t count = value.as_int(what);
  if (count < 0) throw Error(cat(what, " is ", count, "; it cannot be negative"));
  return count;
}

// The product of the sizes must fit int64 even without those that are 0, so that no later product of some of
// them wraps.
uint64_t bytes_of(DType dtype, const std::vector<int64_t>& shape, const std::string& what) {
  int64_t bytes = info(dtype).block_bytes;
  bool empty = false;
  for (const int64_t size : shape) {
    empty = empty || size == 0;
    bytes = checked_mul<int64_t>(bytes, std::max<int64_t>(size, 1), what);
  }
  return empty ? 0 : static_cast<uint64_t>(bytes);
}

Entry read_entry(const std::string& name, const Json& json, const std::string& source) {
  const std::string what = cat(source, ": tensor ", printable(name));
  json.as_object(what);
  Entry entry{{name, read_dtype(json, what), {}, {}, nullptr}, 0, 0};
  const std::string shape_name = cat(what, ".shape");
  for (const Json& size : member(json, "shape", what).as_array(shape_name)) {
    entry.tensor.shape.push_back(read_count(size, shape_name));
  }
  const uint64_t bytes = bytes_of(entry.tensor.dtype, entry.tensor.shape, shape_name);
  const std::string place_name = cat(what, ".data_offsets");
  const Json::Array& place = member(json, "data_offsets", what).as_array(place_name);
  if (place.size() != 2) throw Error(cat(place_name, " should be [begin, end]"));
  entry.begin = static_cast<uint64_t>(read_count(place[0], place_name));
  entry.end = static_cast<uint64_t>(read_count(place[1], place_name));
  if (entry.end < entry.begin || entry.end - entry.begin != bytes) {
    throw Error(cat(place_name, " are ", entry.begin, " to ", entry.end, ", but dtype and shape take ", bytes,
                    " bytes"));
  }
  return entry;
}

void check_metadata(const Json& json, const std::string& source) {
  const std::string what = cat(source, ": __metadata__");
  for (const auto& [key, value] : json.as_object(what)) value.as_string(cat(what, " ", printable(key)));
}

std::vector<Entry> read_header(std::string_view header, const std::string& source) {
  const Json json = Json::parse(header, cat(source, ", header"));
  std::vector<Entry> entries;
  for (const auto& [name, value] : json.as_object(cat(source, ": the header"))) {
    if (name == "__metadata__") {
      check_metadata(value, source);
    } else {
      entries.push_back(read_entry(name, value, source));
    }
  }
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  return entries;
}

std::vector<TensorInfo> read_bytes(std::span<const std::byte> bytes, const std::string& source,
                                   std::shared_ptr<const MappedFile> file) {
  Reader reader(bytes, source);
  const auto header_bytes = reader.read<uint64_t>("header length");
  if (header_bytes > kMaxHeaderBytes) {
    reader.fail(cat("a header of ", header_bytes, " bytes; the limit is ", kMaxHeaderBytes));
  }
  const auto header = reader.take_text(header_bytes, "header");
  if (!header.starts_with('{')) reader.fail("the header should begin with '{'");
  const auto data = reader.take(reader.left(), "data");
  std::vector<TensorInfo> tensors;
  uint64_t expected = 0;  // where the next tensor begins
  for (Entry& entry : read_header(header, source)) {
    if (entry.begin != expected) {
      throw Error(cat(source, ": tensor ", printable(entry.tensor.name), " begins at ", entry.begin,
                      " of the data; ", expected,
                      " was expected, for tensors may not overlap or leave holes"));
    }
    if (entry.end > data.size()) {
      throw Error(cat(source, ": tensor ", printable(entry.tensor.name), " ends at ", entry.end,
                      " of the data, which has only ", data.size(),
                      " bytes; the file is damaged or its download incomplete"));
    }
    expected = entry.end;
    entry.tensor.data = data.subspan(entry.begin, entry.end - entry.begin);
    entry.tensor.file = file;
    tensors.push_back(std::move(entry.tensor));
  }
  if (expected != data.size()) {
    throw Error(
        cat(source, ": the tensors end at ", expected, " of the data, which has ", data.size(), " bytes"));
  }
  return tensors;
}

// What model.safetensors.index.json promises: the tensors of each shard.
std::map<std::string, std::set<std::string>> read_index(const std::string& path) {
  const Json index = Json::parse_file(path);
  const Json* map = index.find("weight_map");
  if (map == nullptr) throw Error(cat(path, " has no weight_map"));
  std::map<std::string, std::set<std::string>> shards;
  for (const auto& [tensor, shard] : map->as_object(cat(path, ": weight_map"))) {
    const std::string& name = shard.as_string(cat(path, ": weight_map of ", printable(tensor)));
    const bool plain = !name.empty() &&
                       name.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos &&
                       name.find("..") == std::string::npos;
    if (!plain) throw Error(cat(path, ": the shard ", printable(name), " is no plain file name"));
    shards[name].insert(tensor);
  }
  return shards;
}

}  // namespace

std::vector<TensorInfo> open_file(const std::string& path) {
  const auto file = std::make_shared<const MappedFile>(path);
  return read_bytes(file->bytes(), path, file);
}

std::vector<TensorInfo> parse(std::span<const std::byte> bytes, const std::string& source) {
  return read_bytes(bytes, source, nullptr);
}

std::vector<TensorInfo> open_folder(const std::string& folder) {
  const std::filesystem::path base(folder);
  const auto single = base / "model.safetensors";
  const auto index = base / "model.safetensors.index.json";
  if (std::filesystem::exists(single)) return open_file(single.string());
  if (!std::filesystem::exists(index)) {
    throw Error(cat(folder, " holds neither model.safetensors nor model.safetensors.index.json"));
  }
  std::vector<TensorInfo> tensors;
  std::unordered_set<std::string> names;
  for (auto& [shard, missing] : read_index(index.string())) {
    const std::string path = (base / shard).string();
    for (TensorInfo& tensor : open_file(path)) {
      if (!names.insert(tensor.name).second) {
        throw Error(cat(path, ": the tensor ", printable(tensor.name), " is in another shard too"));
      }
      missing.erase(tensor.name);
      tensors.push_back(std::move(tensor));
    }
    if (!missing.empty()) {
      throw Error(cat(path, " lacks the tensor ", printable(*missing.begin()), ", which ", index.string(),
                      " says it holds"));
    }
  }
  return tensors;
}

}  // namespace llamita::safetensors
