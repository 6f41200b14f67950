#include "formats/gguf.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <unordered_set>

#include "base/cat.h"
#include "formats/gguf_part.h"
#include "formats/printable.h"
#include "formats/split_name.h"
#include "llamita/error.h"

namespace llamita::gguf {

namespace {

// In the order of Value.
constexpr std::string_view kKinds[] = {"a boolean",          "an integer",           "a float",
                                       "a string",           "an array of booleans", "an array of integers",
                                       "an array of floats", "an array of strings"};

template <class T>
const T* get(const File& file, std::string_view key, std::string_view expected) {
  const Value* value = file.find(key);
  if (value == nullptr) return nullptr;
  const T* typed = std::get_if<T>(value);
  if (typed == nullptr) {
    throw Error(cat(file.path(), ": key ", printable(key), " should be ", expected, " but is ",
                    kKinds[value->index()]));
  }
  return typed;
}

}  // namespace

File File::open(const std::string& path) {
  File file = open_part(path);
  const int64_t count = file.get_int("split.count").value_or(0);
  if (count < 0) throw Error(cat(path, ": split.count is ", count));
  if (count > 1) file.join_parts(path, count);
  return file;
}

File File::open_part(const std::string& path) {
  const auto mapped = std::make_shared<const MappedFile>(path);
  return PartReader(mapped->bytes(), path, mapped).read();
}

File File::parse(std::span<const std::byte> bytes, const std::string& source) {
  return PartReader(bytes, source, nullptr).read();
}

// Turns the part at `path` into the whole model: the keys of the first part and the tensors of all.
void File::join_parts(const std::string& path, int64_t count) {
  const int64_t part = get_int("split.no").value_or(-1);
  // Parts count from 0 in the file, from 1 in the name.
  const auto name = parse_split_name(path);
  if (!name || name->part - 1 != part || name->count != count) {
    throw Error(cat(path, ": part ", part, " (split.no, from 0) of ", count,
                    " of a split model, whose name should end in ",
                    split_suffix(std::max<int64_t>(part, 0) + 1, count),
                    "; give the parts their names back"));
  }
  File whole;
  std::unordered_set<std::string> names;
  for (int64_t i = 0; i < count; ++i) {
    const std::string part_path = name->stem + split_suffix(i + 1, count);
    if (i != part && !std::filesystem::exists(part_path)) {
      throw Error(cat(part_path, " is missing: ", path, " is one of ", count,
                      " parts of a model, which must lie in one folder"));
    }
    File next = i == part ? std::move(*this) : open_part(part_path);
    if (next.get_int("split.no") != i || next.get_int("split.count") != count) {
      throw Error(cat(part_path, ": its keys say part ", next.get_int("split.no").value_or(-1), " of ",
                      next.get_int("split.count").value_or(-1), "; part ", i, " of ", count,
                      " was expected"));
    }
    for (const TensorInfo& tensor : next.tensors_) {
      if (!names.insert(tensor.name).second) {
        throw Error(cat(part_path, ": the tensor ", printable(tensor.name), " is in another part too"));
      }
    }
    if (i == 0) {
      whole = std::move(next);
    } else {
      whole.tensors_.insert(whole.tensors_.end(), std::make_move_iterator(next.tensors_.begin()),
                            std::make_move_iterator(next.tensors_.end()));
    }
  }
  const auto promised = whole.get_int("split.tensors.count");
  if (promised && *promised != static_cast<int64_t>(whole.tensors_.size())) {
    throw Error(cat(path, ": the parts hold ", whole.tensors_.size(), " tensors; split.tensors.count says ",
                    *promised));
  }
  *this = std::move(whole);
}

const Value* File::find(std::string_view key) const {
  const auto found = values_.find(std::string(key));
  return found == values_.end() ? nullptr : &found->second;
}

std::optional<int64_t> File::get_int(std::string_view key) const {
  const auto* value = get<int64_t>(*this, key, "an integer");
  return value == nullptr ? std::nullopt : std::optional(*value);
}

std::optional<double> File::get_double(std::string_view key) const {
  const Value* value = find(key);
  if (value != nullptr && std::holds_alternative<int64_t>(*value)) {
    return static_cast<double>(std::get<int64_t>(*value));
  }
  const auto* real = get<double>(*this, key, "a number");
  return real == nullptr ? std::nullopt : std::optional(*real);
}

std::optional<bool> File::get_bool(std::string_view key) const {
  const auto* value = get<bool>(*this, key, "a boolean");
  return value == nullptr ? std::nullopt : std::optional(*value);
}

const std::string* File::get_string(std::string_view key) const {
  return get<std::string>(*this, key, "a string");
}
const std::vector<std::string>* File::get_strings(std::string_view key) const {
  return get<std::vector<std::string>>(*this, key, "an array of strings");
}
const std::vector<int64_t>* File::get_ints(std::string_view key) const {
  return get<std::vector<int64_t>>(*this, key, "an array of integers");
}
const std::vector<double>* File::get_doubles(std::string_view key) const {
  return get<std::vector<double>>(*this, key, "an array of floats");
}

}  // namespace llamita::gguf
