// The blocks that choose a row's token together: a cluster, or one block on cards without clusters.
//
// What they tell each other goes from registers into another block's shared memory (st.async), and a barrier
// there counts the bytes: half a microsecond, with no fence and no barrier of the cluster.
#pragma once

#include <cstdint>

#include "hw/cuda/device/ptx/cluster_store.cuh"
#include "hw/cuda/device/ptx/mbarrier.cuh"
#include "hw/cuda/device/ptx/smem.cuh"
#include "hw/cuda/device/ptx/sync.cuh"

namespace llamita::select {

inline constexpr int kLog2Threads = 9, kThreads = 1 << kLog2Threads;
inline constexpr int kWarps = kThreads / 32;
inline constexpr int kMostBlocks = 16;  // of a row; more than 8 need the launch's leave
inline constexpr int kMostWords = 3;    // that a block tells at once

struct TeamShared {
  uint64_t full[2];                            // mbarriers: the inbox has everybody's words
  uint64_t inbox[2][kMostBlocks][kMostWords];  // in turns: a block may be one exchange ahead of another
  uint64_t letter_full, letter;                // what the first block tells the others, once
};

struct Add {
  template <class T>
  __device__ static T of(T a, T b) {
    return a + b;
  }
};
struct Larger {
  template <class T>
  __device__ static T of(T a, T b) {
    return a > b ? a : b;
  }
};

// Of groups of `lanes` adjacent lanes.
template <class Combine, class T>
__device__ __forceinline__ T warp_combine(T x, int lanes = 32) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2)
    if (step < lanes) x = Combine::of(x, __shfl_xor_sync(0xffffffff, x, step));
  return x;
}

struct Team {
  TeamShared& s;
  int rank, blocks;
  uint32_t exchanges = 0;

  // First of all, in every block; open() of other barriers, a barrier of the block, announce() and meet()
  // must follow.
  __device__ Team(TeamShared& shared, int blocks_in) : s(shared), rank(0), blocks(blocks_in) {
#if __CUDA_ARCH__ >= 900
    if (blocks > 1) rank = static_cast<int>(ptx::cluster_rank());
#endif
    for (uint64_t& barrier : s.full) open(barrier, 1);
    open(s.letter_full, 1);
  }

  __device__ __forceinline__ int log2_blocks() const { return 31 - __clz(blocks); }

  // Thread 0 prepares a barrier that is waited for once.
  __device__ __forceinline__ void open(uint64_t& barrier, int arrivals) const {
#if __CUDA_ARCH__ >= 900
    if (blocks > 1 && threadIdx.x == 0) {
      ptx::mbarrier_init(&barrier, static_cast<uint32_t>(arrivals));
      ptx::mbarrier_init_fence();
    }
#endif
  }

  // Nobody writes into a block that has not begun.
  __device__ __forceinline__ void announce() const {
#if __CUDA_ARCH__ >= 900
    if (blocks > 1) ptx::cluster_arrive_relaxed();
#endif
  }
  __device__ __forceinline__ void meet() const {
#if __CUDA_ARCH__ >= 900
    if (blocks > 1) ptx::cluster_wait();
#endif
  }

  // A barrier of all threads of the row, and of their memory.
  __device__ __forceinline__ void sync() const {
#if __CUDA_ARCH__ >= 900
    if (blocks > 1) return ptx::cluster_sync();
#endif
    __syncthreads();
  }

  // Stores to a place in `block`, 8 bytes to the count of its barrier.
  __device__ __forceinline__ void send(uint64_t& place, uint64_t value, uint64_t& barrier, int block) const {
#if __CUDA_ARCH__ >= 900
    if (blocks > 1) return ptx::store_async_u64(&place, value, &barrier, static_cast<uint32_t>(block));
#endif
    place = value;
  }
  // One arrival at the barrier of `block`, for so many words.
  __device__ __forceinline__ void expect(uint64_t& barrier, int words, int block) const {
#if __CUDA_ARCH__ >= 900
    if (blocks > 1)
      ptx::mbarrier_arrive_expect_tx_cluster(&barrier, 8 * static_cast<uint32_t>(words),
                                             static_cast<uint32_t>(block));
#endif
  }
  // All threads wait for what comes in.
  __device__ __forceinline__ void receive(uint64_t& barrier) const {
#if __CUDA_ARCH__ >= 900
    if (blocks > 1) return ptx::mbarrier_wait(&barrier, 0);
#endif
    __syncthreads();
  }

  // Tells all blocks this block's words, which all lanes of warp 0 have; received() gives them until the
  // next call but one. All threads call it.
  template <int kWords>
  __device__ __forceinline__ void exchange(const uint64_t (&words)[kWords]) {
    const uint32_t turn = exchanges++ % 2;
#if __CUDA_ARCH__ >= 900
    if (blocks > 1) {
      if (threadIdx.x == 0)
        ptx::mbarrier_arrive_expect_tx(&s.full[turn], static_cast<uint32_t>(blocks) * kWords * 8);
      if (static_cast<int>(threadIdx.x) < blocks) {
#pragma unroll
        for (int i = 0; i < kWords; ++i)
          ptx::store_async_u64(&s.inbox[turn][rank][i], words[i], &s.full[turn], threadIdx.x);
      }
      return ptx::mbarrier_wait(&s.full[turn], (exchanges - 1) / 2 % 2);
    }
#endif
    if (threadIdx.x == 0) {
#pragma unroll
      for (int i = 0; i < kWords; ++i) s.inbox[turn][0][i] = words[i];
    }
    __syncthreads();
  }
  __device__ __forceinline__ uint64_t received(int block, int word = 0) const {
    return s.inbox[(exchanges - 1) % 2][block][word];
  }
  __device__ __forceinline__ uint64_t received_sum(int word) const {
    uint64_t sum = 0;
#pragma unroll 1
    for (int block = 0; block < blocks; ++block) sum += received(block, word);
    return sum;
  }

  // From the first block to the others, once.
  __device__ __forceinline__ void tell(uint64_t letter) const {
#if __CUDA_ARCH__ >= 900
    if (threadIdx.x > 0 && static_cast<int>(threadIdx.x) < blocks)
      ptx::store_async_u64(&s.letter, letter, &s.letter_full, threadIdx.x);
#endif
  }
  __device__ __forceinline__ uint64_t hear() const {
#if __CUDA_ARCH__ >= 900
    if (threadIdx.x == 0) ptx::mbarrier_arrive_expect_tx(&s.letter_full, 8);
    ptx::mbarrier_wait(&s.letter_full, 0);
#endif
    return s.letter;
  }

  // The sum of what lies at this place of all blocks' shared memory; sync() lies between its being written
  // and this. The loads are under way together.
  __device__ __forceinline__ uint64_t sum_of(const uint64_t* place) const {
#if __CUDA_ARCH__ >= 900
    if (blocks > 1) {
      uint64_t sum = 0;
#pragma unroll
      for (int block = 0; block < kMostBlocks; ++block)
        if (block < blocks)
          sum += ptx::load_cluster_u64(
              ptx::cluster_address(ptx::smem_address(place), static_cast<uint32_t>(block)));
      return sum;
    }
#endif
    return *place;
  }
};

}  // namespace llamita::select
