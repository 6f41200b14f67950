#include "tensor/storage.h"

#include <sys/mman.h>

#include <cstdint>

#include "base/cat.h"
#include "llamita/error.h"

namespace llamita {

namespace {

constexpr size_t kHugePage = size_t{2} << 20;

// mmap gives 4 KiB borders; huge pages need 2 MiB ones, so the mapping is one huge page longer than asked.
std::shared_ptr<void> map_anonymous(size_t bytes) {
  const size_t mapped = bytes < kHugePage ? bytes : bytes + kHugePage;
  void* base =
      ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) throw Error(cat("out of memory: cannot allocate ", bytes, " bytes"));
  void* start = base;
  if (bytes >= kHugePage) {
    const auto address = reinterpret_cast<uintptr_t>(base);
    start = reinterpret_cast<void*>((address + kHugePage - 1) / kHugePage * kHugePage);
    ::madvise(start, bytes, MADV_HUGEPAGE);
  }
  return {start, [base, mapped](void*) { ::munmap(base, mapped); }};
}

}  // namespace

Storage Storage::allocate(size_t bytes) {
  if (bytes == 0) return {};
  return {map_anonymous(bytes), bytes};
}

Storage Storage::borrow(const void* data, size_t bytes, std::shared_ptr<const void> keep_alive) {
  std::shared_ptr<void> held(const_cast<void*>(data), [keep = std::move(keep_alive)](void*) {});
  return {std::move(held), bytes};
}

}  // namespace llamita
