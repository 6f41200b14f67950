// Split K: the blocks of a cluster that multiplied one tile's parts of K add their sums. Each warp works with
// the same warp of the other blocks and finishes every parts-th chunk of its rows. The others push their sums
// of those into the place of its block's ring, once it says that it needs the ring no more; it adds them up
// in the order of the parts, so a result is the same in every run. (Through L2 an exchange took 2 to 5 us,
// more the more was exchanged: sums went out to memory. Reading the others' shared memory behind a barrier
// gave 16 bytes a nanosecond and block.)
#pragma once

#include "hw/cuda/device/ptx/cluster_store.cuh"
#include "ops/linear/gemm_sm90_config.cuh"

namespace llamita::gemm_sm90_detail {

// Whose a warp's chunks are, one after the other: turned by the warp, so that a block's warps share the work.
class Owner {
 public:
  __device__ __forceinline__ Owner(int parts, int warp) : parts_(parts), part_(warp) {
    while (part_ >= parts) part_ -= parts;
  }
  __device__ __forceinline__ int part() const { return part_; }
  __device__ __forceinline__ int turn() const { return turn_; }  // among the part's chunks of this warp
  __device__ __forceinline__ void advance() {
    if (++part_ == parts_) part_ = 0;
    if (++passed_ == parts_) passed_ = 0, ++turn_;
  }

 private:
  int parts_, part_;
  int passed_ = 0, turn_ = 0;
};

// By one thread, before the cluster's barrier.
template <class C>
__device__ __forceinline__ void init_exchange(const Params& p, Storage<C>& s) {
  ptx::mbarrier_init(&s.exchange.rings_free, p.cluster.parts - 1);
#pragma unroll
  for (uint64_t& arrived : s.exchange.arrived) ptx::mbarrier_init(&arrived, 1);
}

// Calls visit(chunk, total) for each chunk that this part finishes. `warp`: of the block's consumers.
template <class C, class Visit>
__device__ __forceinline__ void add_parts(const Params& p, Storage<C>& s, const Place& place,
                                          const float (&sum)[C::kWidth / 2], int warp, int lane,
                                          Visit visit) {
  constexpr int kQuads = C::kChunkQuads;
  const int parts = p.cluster.parts, thread = warp * 32 + lane;
  const auto rank = [&](int part) { return static_cast<uint32_t>(part * p.cluster.rows + place.row); };
  uint64_t* arrived = &s.exchange.arrived[warp];
  int own = 0, turns = 0;  // chunks of this part, and the most of any part
  Owner owner(parts, warp);
#pragma unroll
  for (int chunk = 0; chunk < C::kChunks; ++chunk, owner.advance()) {
    own += owner.part() == place.part;
    turns = owner.turn() + 1;
  }
  // Where the sums of part `from` for a part's chunk lie.
  const auto place_of = [&](int from, int part, int turn) {
    return s.pushed[((from < part ? from : from - 1) * turns + turn) * kQuads];
  };
  if (lane == 0) ptx::mbarrier_arrive_expect_tx(arrived, (parts - 1) * own * kQuads * 32 * 16);
  if (p.cluster.rows == 1) ptx::cluster_wait();  // the others' barriers are there; pairs have waited before
  ptx::named_barrier_sync(1, 128 * C::kConsumers);  // no warp multiplies from the ring any more
  if (thread < parts && thread != place.part)
    ptx::mbarrier_arrive_cluster(&s.exchange.rings_free, rank(thread));
  ptx::mbarrier_wait(&s.exchange.rings_free, 0);
  owner = Owner(parts, warp);
#pragma unroll
  for (int chunk = 0; chunk < C::kChunks; ++chunk, owner.advance()) {
    if (owner.part() == place.part) continue;
    float4* to = place_of(place.part, owner.part(), owner.turn());
#pragma unroll
    for (int i = 0; i < kQuads; ++i) {
      const float* v = sum + chunk * (C::kChunk / 2) + 4 * i;
      ptx::store_async_float4(to + i * 128 * C::kConsumers + thread, make_float4(v[0], v[1], v[2], v[3]),
                              arrived, rank(owner.part()));
    }
  }
  ptx::mbarrier_wait(arrived, 0);
  owner = Owner(parts, warp);
#pragma unroll
  for (int chunk = 0; chunk < C::kChunks; ++chunk, owner.advance()) {
    if (owner.part() != place.part) continue;
    float total[C::kChunk / 2] = {};
#pragma unroll 1
    for (int from = 0; from < parts; ++from) {
      if (from == place.part) {
#pragma unroll
        for (int i = 0; i < C::kChunk / 2; ++i) total[i] += sum[chunk * (C::kChunk / 2) + i];
        continue;
      }
      const float4* there = place_of(from, place.part, owner.turn());
#pragma unroll
      for (int i = 0; i < kQuads; ++i) {
        const float4 v = there[i * 128 * C::kConsumers + thread];
        total[4 * i] += v.x, total[4 * i + 1] += v.y, total[4 * i + 2] += v.z, total[4 * i + 3] += v.w;
      }
    }
    visit(chunk, total);
  }
}

}  // namespace llamita::gemm_sm90_detail
