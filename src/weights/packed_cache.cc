#include "weights/packed_cache.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <system_error>

#include "base/atomic_file.h"
#include "base/cat.h"
#include "base/check.h"
#include "base/checksum.h"
#include "base/log.h"
#include "base/timer.h"
#include "formats/printable.h"
#include "llamita/error.h"

namespace llamita {

namespace {

namespace fs = std::filesystem;

constexpr size_t kMostNameBytes = 100;  // a file's name may have 255

// "SmolLM2-135M" of "models/SmolLM2-135M.gguf" and of "models/SmolLM2-135M/".
std::string name_of(const std::string& path) {
  const fs::path trimmed(path.substr(0, path.find_last_not_of('/') + 1));
  const fs::path name = trimmed.extension() == ".gguf" ? trimmed.stem() : trimmed.filename();
  return name.string().substr(0, kMostNameBytes);
}

std::string hex(uint64_t value) {
  std::string out;
  for (int shift = 60; shift >= 0; shift -= 4) out += "0123456789abcdef"[value >> shift & 15];
  return out;
}

// Without the times: a model that was only touched or copied gets its old file, which is then written again.
std::string file_name(const TensorFiles& files, const std::vector<SourceFile>& sources) {
  std::vector<uint64_t> content;
  for (const SourceFile& source : sources)
    content.insert(content.end(), {source.bytes, source.header, source.samples});
  return cat(name_of(files.path()), "-", hex(checksum64(std::as_bytes(std::span(content)))), ".packed");
}

uint64_t checksum_of(const Storage& storage) {
  std::span<const std::byte> bytes(static_cast<const std::byte*>(storage.data()), storage.bytes());
  std::vector<uint64_t> sums;
  for (; !bytes.empty(); bytes = bytes.subspan(std::min(kPackedPieceBytes, bytes.size())))
    sums.push_back(checksum64(bytes.first(std::min(kPackedPieceBytes, bytes.size()))));
  return checksum_of_pieces(sums);
}

int64_t milliseconds(double seconds) { return static_cast<int64_t>(1e3 * seconds + 0.5); }

}  // namespace

PackedCache::PackedCache(const std::string& folder, const TensorFiles& files, quant::Layout layout) {
  header_.sources = identify_sources(files);
  if (header_.sources.empty()) return;
  header_.layout = packed_layout(layout);
  path_ = (fs::path(folder) / file_name(files, header_.sources)).string();
  std::error_code error;
  if (!fs::exists(path_, error)) {
    log_info("packed weights: no ", path_, " yet");
    return;
  }
  try {
    auto file = std::make_unique<const InputFile>(path_);
    std::vector<std::byte> bytes(kPackedPrefixBytes);
    if (file->size() < bytes.size()) throw Error(cat(path_, " ends after ", file->size(), " bytes"));
    file->read_at(0, bytes);
    bytes.resize(packed_header_bytes(bytes, file->size(), path_));
    file->read_at(0, bytes);
    PackedHeader header = parse_packed_header(bytes, file->size(), path_);
    if (header.layout != header_.layout)
      throw Error(
          cat(path_, " has the layout ", printable(header.layout), ", wanted is '", header_.layout, "'"));
    if (header.sources != header_.sources) throw Error(cat(path_, " was made from other files than these"));
    reader_ = std::make_unique<PackedReader>(std::move(file), std::move(header));
  } catch (const Error& problem) {
    log_info("packed weights: ", problem.what(), ": they are packed again");
  }
}

Storage PackedCache::find(const PackedPart& part) {
  Storage storage = reader_ == nullptr ? Storage() : reader_->take(part);
  if (storage.data() == nullptr) return {};
  header_.parts.push_back({part});
  storages_.push_back(storage);
  return storage;
}

void PackedCache::keep(const PackedPart& part, const Storage& storage) {
  if (path_.empty()) return;
  LLAMITA_CHECK(static_cast<int64_t>(storage.bytes()) == part.bytes(), part.name, " has ", storage.bytes(),
                " bytes");
  if (reader_ != nullptr)
    log_info("packed weights: ", path_, " lacks ", printable(part.name), " or has it damaged");
  header_.parts.push_back({part});
  storages_.push_back(storage);
  ++packed_;
}

void PackedCache::save() {
  if (path_.empty()) return;
  if (header_.parts.empty()) {
    log_info("packed weights: all of this model's can be used as they lie in its files, nothing is kept");
  } else if (packed_ == 0 && header_.parts.size() == reader_->parts()) {
    log_info("packed weights: ", header_.parts.size(), " matrices from ", path_);
  } else {
    try {
      write();
    } catch (const Error& problem) {
      log_warning("packed weights are not kept, the next start packs again: ", problem.what());
    }
  }
  reader_.reset();
  storages_.clear();
}

void PackedCache::write() {
  const Stopwatch watch;
  std::error_code error;
  fs::create_directories(fs::path(path_).parent_path(), error);
  if (error) throw Error(cat(fs::path(path_).parent_path().string(), " cannot be made: ", error.message()));
  place_parts(header_);
  AtomicFile file(path_, header_.file_bytes);
  if (!file.is_ours()) return log_info("packed weights: another process is writing ", path_);
  for (size_t i = 0; i < storages_.size(); ++i) header_.parts[i].checksum = checksum_of(storages_[i]);
  const std::vector<std::byte> header = serialise(header_);
  file.write(header);
  constexpr std::array<std::byte, kPackedAlignment> kZeros{};
  uint64_t at = header.size();
  for (size_t i = 0; i < storages_.size(); ++i) {
    file.write(std::span(kZeros).first(header_.parts[i].offset - at));
    file.write({static_cast<const std::byte*>(storages_[i].data()), storages_[i].bytes()});
    at = header_.parts[i].offset + storages_[i].bytes();
  }
  file.commit();
  log_info("packed weights: ", header_.file_bytes / 1'000'000, " MB written to ", path_, " in ",
           milliseconds(watch.seconds()), " ms");
}

}  // namespace llamita
