// Letters: values that pass between the blocks of a kernel through global memory. A letter is 32 bits and the
// tag that tells when they were written, in one word that is read and written whole, past L1. The reader asks
// until the tag is the one it waits for, so neither side needs a fence, and nothing else is ordered.
#pragma once

#include <cstdint>

#include "hw/cuda/device/ptx/mbarrier.cuh"

namespace llamita::ptx {

__device__ __forceinline__ void post_letter(uint64_t* to, uint32_t value, uint32_t tag) {
  asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(to), "l"(uint64_t{tag} << 32 | value) : "memory");
}

// Two, to a multiple of 16 bytes.
__device__ __forceinline__ void post_two_letters(uint64_t* to, uint32_t first, uint32_t second,
                                                 uint32_t tag) {
  asm volatile("st.relaxed.gpu.global.v2.u64 [%0], {%1, %2};" ::"l"(to), "l"(uint64_t{tag} << 32 | first),
               "l"(uint64_t{tag} << 32 | second)
               : "memory");
}

__device__ __forceinline__ uint64_t read_letter(const uint64_t* from) {
  uint64_t letter;
  asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(letter) : "l"(from) : "memory");
  return letter;
}

// Two that lie side by side at a multiple of 16 bytes; each is whole.
__device__ __forceinline__ ulonglong2 read_two_letters(const uint64_t* from) {
  ulonglong2 letters;
  asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];"
               : "=l"(letters.x), "=l"(letters.y)
               : "l"(from)
               : "memory");
  return letters;
}

__device__ __forceinline__ bool has_tag(uint64_t letter, uint32_t tag) {
  return static_cast<uint32_t>(letter >> 32) == tag;
}

// Waits until ask() is true: it reads letters and looks at their tags. Builds with LLAMITA_DEVICE_TIMEOUT
// stop the kernel after two seconds, as mbarrier_wait does.
template <class Ask>
__device__ __forceinline__ void await_letters(Ask ask) {
#if LLAMITA_DEVICE_TIMEOUT
  const uint64_t begin = global_timer_ns();
  while (!ask())
    if (global_timer_ns() - begin > 2'000'000'000ull) __trap();
#else
  while (!ask()) {
  }
#endif
}

}  // namespace llamita::ptx
