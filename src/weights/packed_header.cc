#include "weights/packed_header.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <unordered_set>

#include "base/cat.h"
#include "base/check.h"
#include "base/checked.h"
#include "base/checksum.h"
#include "base/reader.h"
#include "formats/printable.h"
#include "llamita/error.h"
#include "quant/interleave.h"

namespace llamita {

namespace {

constexpr std::string_view kMagic = "llamita!";
constexpr uint32_t kVersion = 1;  // raise it when the header changes, or what a Packing does to bytes
constexpr size_t kChecksumAt = kPackedPrefixBytes - sizeof(uint64_t);
constexpr size_t kSourceBytes = 32, kLeastPartBytes = 45;

class Writer {
 public:
  template <class Number>
  void put(Number value) {
    const auto* bytes = reinterpret_cast<const std::byte*>(&value);
    out_.insert(out_.end(), bytes, bytes + sizeof value);
  }
  void put_text(std::string_view text) {
    put(checked_cast<uint16_t>(text.size(), "a name's length"));
    put_raw(text);
  }
  void put_raw(std::string_view text) {
    const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
    out_.insert(out_.end(), bytes, bytes + text.size());
  }
  std::vector<std::byte>& bytes() { return out_; }

 private:
  std::vector<std::byte> out_;
};

std::string read_text(Reader& reader, std::string_view what) {
  return std::string(reader.take_text(reader.read<uint16_t>(what), what));
}

// A count of things that take at least `least` bytes each.
uint32_t read_count(Reader& reader, std::string_view what, size_t least) {
  const auto count = reader.read<uint32_t>(what);
  if (count > reader.left() / least)
    reader.fail(cat(count, " ", what, " are more than ", reader.left(), " bytes can hold"));
  return count;
}

DType read_format(Reader& reader, const std::string& name) {
  const auto id = reader.read<int32_t>("a format");
  const auto format = dtype_of_ggml(id);
  if (!format) reader.fail(cat(printable(name), " has the unknown format ", id));
  return *format;
}

// Numbers from which bytes() can be computed without overflow.
void check_shape(const Reader& reader, const PackedPart& part) {
  const int64_t block = info(part.format).block_elems;
  if (part.rows <= 0 || part.cols <= 0 || part.cols % block != 0 || part.rotary_head_dim < 0)
    reader.fail(cat(printable(part.name), " is ", part.rows, " rows of ", part.cols,
                    " elements in blocks of ", block));
  const int64_t row = checked_mul<int64_t>(part.cols / block, info(part.format).block_bytes, "a row");
  checked_mul(part.rows, row, "a part");
  if (part.packing == Packing::interleaved && !quant::can_interleave(part.format, part.rows))
    reader.fail(
        cat(printable(part.name), ": ", part.rows, " rows of ", name(part.format), " cannot be interleaved"));
}

PackedEntry read_part(Reader& reader) {
  PackedEntry entry;
  PackedPart& part = entry.part;
  part.name = read_text(reader, "a part's name");
  part.label = read_text(reader, "a part's label");
  part.format = read_format(reader, part.name);
  const auto packing = reader.read<uint8_t>("a packing");
  if (packing > static_cast<uint8_t>(Packing::moved))
    reader.fail(cat(printable(part.name), " has packing ", packing));
  part.packing = static_cast<Packing>(packing);
  part.rotary_head_dim = reader.read<int32_t>("a head's size");
  part.rows = reader.read<int64_t>("a number of rows");
  part.cols = reader.read<int64_t>("a number of columns");
  entry.offset = reader.read<uint64_t>("an offset");
  entry.checksum = reader.read<uint64_t>("a checksum");
  check_shape(reader, part);
  return entry;
}

uint64_t aligned(uint64_t bytes) { return checked_align_up(bytes, kPackedAlignment, "a packed file"); }

// Of eight rows of two blocks of numbered bytes, in every format that has such a layout.
uint64_t fingerprint_of_interleaving() {
  std::vector<uint64_t> sums;
  for (int i = 0; i < kDTypeCount; ++i) {
    const auto format = static_cast<DType>(i);
    if (quant::fields_of(format).empty()) continue;
    const int64_t cols = 2 * info(format).block_elems, row = row_bytes(format, cols);
    std::vector<std::byte> stored(static_cast<size_t>(quant::kGroupRows * row)), group(stored.size());
    for (size_t at = 0; at < stored.size(); ++at) stored[at] = static_cast<std::byte>(at * 167 + at / 256);
    std::array<const std::byte*, quant::kGroupRows> rows;
    for (int r = 0; r < quant::kGroupRows; ++r) rows[static_cast<size_t>(r)] = stored.data() + r * row;
    quant::interleave_group(format, rows, cols, group.data());
    sums.push_back(static_cast<uint64_t>(info(format).ggml_type));
    sums.push_back(checksum64(group));
  }
  return checksum64(std::as_bytes(std::span(sums)));
}

}  // namespace

std::string packed_layout(quant::Layout layout) {
  if (layout == quant::Layout::rows) return "rows";
  return cat("groups of ", quant::kGroupRows, " rows, ", fingerprint_of_interleaving());
}

uint64_t checksum_of_pieces(std::span<const uint64_t> pieces) { return checksum64(std::as_bytes(pieces)); }

void place_parts(PackedHeader& header) {
  size_t bytes = kPackedPrefixBytes + 2 + header.layout.size() + 4 + header.sources.size() * kSourceBytes + 4;
  for (const PackedEntry& entry : header.parts)
    bytes += kLeastPartBytes + entry.part.name.size() + entry.part.label.size();
  header.header_bytes = aligned(bytes);
  header.file_bytes = header.header_bytes;
  for (PackedEntry& entry : header.parts) {
    entry.offset = aligned(header.file_bytes);
    header.file_bytes = entry.offset + static_cast<uint64_t>(entry.part.bytes());
  }
}

std::vector<std::byte> serialise(const PackedHeader& header) {
  Writer out;
  out.put_raw(kMagic);
  out.put(kVersion);
  out.put(header.header_bytes);
  out.put(uint64_t{0});  // the checksum's place
  out.put_text(header.layout);
  out.put(checked_cast<uint32_t>(header.sources.size(), "source files"));
  for (const SourceFile& source : header.sources) {
    out.put(source.bytes);
    out.put(source.modified_ns);
    out.put(source.header);
    out.put(source.samples);
  }
  out.put(checked_cast<uint32_t>(header.parts.size(), "parts"));
  for (const PackedEntry& entry : header.parts) {
    const PackedPart& part = entry.part;
    out.put_text(part.name);
    out.put_text(part.label);
    out.put(int32_t{info(part.format).ggml_type});
    out.put(static_cast<uint8_t>(part.packing));
    out.put(int32_t{part.rotary_head_dim});
    out.put(part.rows);
    out.put(part.cols);
    out.put(entry.offset);
    out.put(entry.checksum);
  }
  LLAMITA_CHECK(aligned(out.bytes().size()) == header.header_bytes, "a header that was not placed");
  out.bytes().resize(header.header_bytes);
  seal_packed_header(out.bytes());
  return std::move(out.bytes());
}

void seal_packed_header(std::span<std::byte> header) {
  if (header.size() < kPackedPrefixBytes) return;
  const uint64_t sum = checksum64(header.subspan(kPackedPrefixBytes));
  std::memcpy(header.data() + kChecksumAt, &sum, sizeof sum);
}

uint64_t packed_header_bytes(std::span<const std::byte> prefix, uint64_t file_bytes,
                             const std::string& source) {
  Reader reader(prefix, source);
  if (reader.take_text(kMagic.size(), "the magic") != kMagic) reader.fail("is no file of packed weights");
  const auto version = reader.read<uint32_t>("the version");
  if (version != kVersion) reader.fail(cat("has version ", version, ", expected ", kVersion));
  const auto bytes = reader.read<uint64_t>("the header's size");
  if (bytes < kPackedPrefixBytes || bytes > kMaxPackedHeaderBytes || bytes > file_bytes ||
      bytes % kPackedAlignment != 0)
    reader.fail(cat("a header of ", bytes, " bytes in a file of ", file_bytes));
  return bytes;
}

PackedHeader parse_packed_header(std::span<const std::byte> bytes, uint64_t file_bytes,
                                 const std::string& source) {
  PackedHeader header;
  header.header_bytes = packed_header_bytes(bytes, file_bytes, source);
  Reader reader(bytes.first(std::min<uint64_t>(header.header_bytes, bytes.size())), source);
  if (reader.left() < header.header_bytes)
    reader.fail(cat("the header ends after ", reader.left(), " bytes"));
  reader.take(kChecksumAt, "the prefix");
  const auto sum = reader.read<uint64_t>("the checksum");
  if (sum != checksum64(bytes.subspan(kPackedPrefixBytes, reader.left())))
    reader.fail("the header's checksum differs");
  header.layout = read_text(reader, "the layout");
  const uint32_t sources = read_count(reader, "source files", kSourceBytes);
  for (uint32_t i = 0; i < sources; ++i) {
    SourceFile& file = header.sources.emplace_back();
    file.bytes = reader.read<uint64_t>("a source's size");
    file.modified_ns = reader.read<int64_t>("a source's time");
    file.header = reader.read<uint64_t>("a source's header");
    file.samples = reader.read<uint64_t>("a source's samples");
  }
  const uint32_t parts = read_count(reader, "parts", kLeastPartBytes);
  std::unordered_set<std::string> names;
  header.file_bytes = header.header_bytes;
  for (uint32_t i = 0; i < parts; ++i) {
    const PackedEntry& entry = header.parts.emplace_back(read_part(reader));
    if (!names.insert(entry.part.name).second)
      reader.fail(cat(printable(entry.part.name), " is there twice"));
    if (entry.offset != aligned(header.file_bytes))
      reader.fail(cat(printable(entry.part.name), " at offset ", entry.offset, ", expected ",
                      aligned(header.file_bytes)));
    header.file_bytes =
        checked_add(entry.offset, static_cast<uint64_t>(entry.part.bytes()), "the end of a part");
  }
  const std::span<const std::byte> rest = reader.take(reader.left(), "the rest");
  if (rest.size() >= kPackedAlignment ||
      std::any_of(rest.begin(), rest.end(), [](std::byte byte) { return byte != std::byte{0}; }))
    reader.fail("something stands behind the parts");
  if (header.file_bytes != file_bytes)
    reader.fail(cat("parts end at offset ", header.file_bytes, ", the file at ", file_bytes));
  return header;
}

}  // namespace llamita
