// Any bytes are the header of packed weights or an Error; the parts of a header tile its file, and it is
// written again as it was read. The first byte says whether the rest is all of a file's beginning or only
// what its checksum covers, which no mutation would get past; the next eight are the file's size.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "base/check.h"
#include "llamita/error.h"
#include "weights/packed_header.h"

namespace {

// The bytes behind a prefix that is right for them.
std::vector<std::byte> with_prefix(std::span<const std::byte> table) {
  llamita::PackedHeader empty;
  llamita::place_parts(empty);
  std::vector<std::byte> bytes = llamita::serialise(empty);
  bytes.resize(llamita::kPackedPrefixBytes);
  bytes.insert(bytes.end(), table.begin(), table.end());
  constexpr size_t kPage = llamita::kPackedAlignment;
  bytes.resize((bytes.size() + kPage - 1) / kPage * kPage);
  const uint64_t size = bytes.size();
  std::memcpy(bytes.data() + 12, &size, sizeof size);
  llamita::seal_packed_header(bytes);
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 9) return 0;
  uint64_t file_bytes;
  std::memcpy(&file_bytes, data + 1, sizeof file_bytes);
  const auto rest = std::as_bytes(std::span(data, size)).subspan(9);
  const std::vector<std::byte> bytes =
      data[0] % 2 == 0 ? std::vector<std::byte>(rest.begin(), rest.end()) : with_prefix(rest);
  try {
    const llamita::PackedHeader header = llamita::parse_packed_header(bytes, file_bytes, "input");
    uint64_t end = header.header_bytes;
    for (const llamita::PackedEntry& entry : header.parts) {
      LLAMITA_CHECK(entry.offset >= end && entry.offset - end < llamita::kPackedAlignment,
                    "a hole or an overlap");
      LLAMITA_CHECK(entry.part.bytes() > 0, "an empty part");
      end = entry.offset + static_cast<uint64_t>(entry.part.bytes());
    }
    LLAMITA_CHECK(end == file_bytes && header.file_bytes == file_bytes, "outside the file");
    const std::vector<std::byte> again = llamita::serialise(header);
    LLAMITA_CHECK(again.size() <= bytes.size() && std::memcmp(again.data(), bytes.data(), again.size()) == 0,
                  "written differently from what was read");
  } catch (const llamita::Error&) {
  }
  return 0;
}
