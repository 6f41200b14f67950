// Any bytes are a row of any weight format: unpacking reads them and nothing else, gives the same values one
// block at a time at another alignment, and what comes out can be packed again. The first byte chooses the
// format.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "quant/pack.h"
#include "quant/unpack.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace llamita;
  if (size == 0) return 0;
  const auto format = static_cast<DType>(data[0] % kDTypeCount);
  if (!quant::is_weight_format(format)) return 0;
  const auto block_bytes = static_cast<size_t>(info(format).block_bytes);
  const auto block_elems = static_cast<size_t>(info(format).block_elems);
  const size_t blocks = (size - 1) / block_bytes;
  // Exactly the row, so that a sanitizer sees a byte too many.
  const std::vector<uint8_t> row(data + 1, data + 1 + blocks * block_bytes);
  std::vector<float> whole(blocks * block_elems);
  quant::unpack_row(format, row.data(), whole.data(), static_cast<int64_t>(whole.size()));

  std::vector<uint8_t> shifted(block_bytes + 1);
  std::vector<float> single(block_elems);
  for (size_t b = 0; b < blocks; ++b) {
    std::memcpy(shifted.data() + 1, row.data() + b * block_bytes, block_bytes);
    quant::unpack_row(format, shifted.data() + 1, single.data(), static_cast<int64_t>(block_elems));
    const bool same = std::memcmp(single.data(), whole.data() + b * block_elems, 4 * block_elems) == 0;
    LLAMITA_CHECK(same, "block ", b, " depends on its place");
  }
  if (quant::can_pack(format)) {
    std::vector<uint8_t> packed(row.size());
    quant::pack_row(format, whole.data(), packed.data(), static_cast<int64_t>(whole.size()));
  }
  return 0;
}
