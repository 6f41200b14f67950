#include "weights/source_identity.h"

#include <algorithm>

#include "base/checksum.h"

namespace llamita {

namespace {

constexpr size_t kSamples = 32, kSampleBytes = 4096;

// Where a file's tensors begin; the order of tensors in a list says nothing about it.
struct Seen {
  const MappedFile* file;
  size_t data_begin;
};

uint64_t sample(std::span<const std::byte> data) {
  if (data.size() <= kSamples * kSampleBytes) return checksum64(data);
  std::vector<uint64_t> sums;
  const size_t last = data.size() - kSampleBytes;
  for (size_t i = 0; i < kSamples; ++i)
    sums.push_back(checksum64(data.subspan(last / (kSamples - 1) * i, kSampleBytes)));
  return checksum64(std::as_bytes(std::span(sums)));
}

}  // namespace

std::vector<SourceFile> identify_sources(const TensorFiles& files) {
  std::vector<Seen> seen;
  for (const StoredTensor& tensor : files.tensors()) {
    if (tensor.file == nullptr) return {};
    const auto begin = static_cast<size_t>(tensor.data.data() - tensor.file->bytes().data());
    const auto at = std::find_if(seen.begin(), seen.end(),
                                 [&](const Seen& known) { return known.file == tensor.file.get(); });
    if (at == seen.end()) {
      seen.push_back({tensor.file.get(), begin});
    } else {
      at->data_begin = std::min(at->data_begin, begin);
    }
  }
  std::vector<SourceFile> sources;
  for (const auto& [file, data_begin] : seen) {
    const std::span<const std::byte> data = file->bytes().subspan(data_begin);
    sources.push_back(
        {file->size(), file->modified_ns(), checksum64(file->bytes().first(data_begin)), sample(data)});
    file->release(data);  // the pages around the samples
  }
  return sources;
}

}  // namespace llamita
