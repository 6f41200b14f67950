// The file of packed weights: what the loader made of the matrices that it cannot use where they lie.
//
//   prefix    "llamita!", version u32, header's bytes u64, checksum u64 of the header behind the prefix
//   layout    text: what kernels want here, with its fingerprint
//   sources   u32 count; bytes u64, modified i64, header u64, samples u64 of each
//   parts     u32 count; name text, label text, format i32 (GGUF's type id), packing u8, head i32, rows i64,
//             cols i64, offset u64, checksum u64 of each
//   zeros     to a whole page
//   bytes     of the parts, each from the next whole page on
//
// Little-endian; a text is its length as u16 and its bytes. Parts tile the file: it ends with the last one's
// last byte. Nothing here is believed before it is compared with the file's size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "quant/weight.h"
#include "weights/source_identity.h"

namespace llamita {

inline constexpr size_t kPackedPrefixBytes = 28;
inline constexpr uint64_t kPackedAlignment = 4096;
inline constexpr uint64_t kMaxPackedHeaderBytes = uint64_t{64} << 20;

// How a part's bytes differ from those in the model's file.
enum class Packing : uint8_t {
  interleaved,  // quant::Layout::interleaved
  turned,       // (N, K) where the file has (K, N)
  reordered,    // the file's rows in another order
  moved,        // the same, at an address where elements can be read
};

// One matrix, as the loader wants it.
struct PackedPart {
  std::string name;   // of the tensor in the model's file
  std::string label;  // of the part in its weight: "q"
  DType format = DType::f32;
  Packing packing = Packing::interleaved;
  int rotary_head_dim = 0;  // > 0: rows of heads of this size were put in half-split order
  int64_t rows = 0;         // N
  int64_t cols = 0;         // K

  int64_t bytes() const { return rows * row_bytes(format, cols); }
  friend bool operator==(const PackedPart&, const PackedPart&) = default;
};

struct PackedEntry {
  PackedPart part;
  uint64_t offset = 0;
  uint64_t checksum = 0;  // checksum_of_pieces of its bytes
};

struct PackedHeader {
  std::string layout;
  std::vector<SourceFile> sources;
  std::vector<PackedEntry> parts;

  uint64_t header_bytes = 0;
  uint64_t file_bytes = 0;  // of the whole file
};

// The name of a layout with a fingerprint of the bytes that it makes, so that a change to it is another
// layout.
std::string packed_layout(quant::Layout layout);

// A part's checksum is the checksum of those of its pieces, which readers compute side by side.
inline constexpr size_t kPackedPieceBytes = size_t{256}
                                            << 10;  // read and summed within the second cache level
uint64_t checksum_of_pieces(std::span<const uint64_t> pieces);

// Gives the parts their offsets and sets both sizes.
void place_parts(PackedHeader& header);
// The header's bytes, after place_parts(). Throws Error for names that are too long.
std::vector<std::byte> serialise(const PackedHeader& header);
// Writes the checksum of what stands behind the prefix into it.
void seal_packed_header(std::span<std::byte> header);

// How many bytes the header has, from the file's first kPackedPrefixBytes. `source` names the file in errors.
// Throws Error when that is no such file or of another version.
uint64_t packed_header_bytes(std::span<const std::byte> prefix, uint64_t file_bytes,
                             const std::string& source);
// The header from as many bytes. Throws Error for whatever is wrong with it.
PackedHeader parse_packed_header(std::span<const std::byte> header, uint64_t file_bytes,
                                 const std::string& source);

}  // namespace llamita
