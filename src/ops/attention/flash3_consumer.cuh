// A consumer warpgroup of flash3_sm90: 64 rows of each item. Scores, weights and sums stay in registers.
//
// A turn queues the next tile's scores and this tile's values, and turns the scores to weights while the
// values are added up. The next tile may be the first of the next item.
#pragma once

#include "hw/cuda/device/turns.cuh"
#include "ops/attention/flash3_parts.cuh"

namespace llamita::device {

// What multiplies and softmax keep of a consumer's rows. Apart from the consumer: what loops index counts as
// memory until they are unrolled, and the consumer's other members would with it.
template <class C>
struct Flash3Rows {
  float out[C::kDim / 2], correction[2];
  uint32_t weights[C::kKeys / 16][4];
  RowState state;
  RowState finished_state;  // of the item that is not stored yet
};

template <class C>
class Flash3Consumer {
 public:
  __device__ __forceinline__ Flash3Consumer(const Flash3Params& p, Flash3Storage<C>& s, int consumer)
      : p_(p), s_(s), consumer_(consumer), turns_(consumer) {
    finished_.sequence = -1;
  }

  __device__ __forceinline__ void run() {
    s_.q_ring.wait_full(at_q_);
    const Flash3Item first = s_.item[at_q_.stage()];
    if (first.sequence >= 0) consume(first);
    turns_.finish(flash3_consumer());
    if (thread_ == 0) ptx::tma_store_wait<0>();
  }

 private:
  using Rows = Flash3Rows<C>;
  static constexpr int kKeys = C::kKeys;
  // Powers of two that a score may outgrow its row's maximum by before sums are corrected.
  static constexpr int kSlack = 8;

  // All items from `item` on.
  __device__ __forceinline__ void consume(Flash3Item item) {
    float scores[kKeys / 2];
    Rows rows;
    int j = item.tiles.end - 1;
    first_scores(rows, scores, item, j);
    for (;;) {
      const bool begins = j == item.tiles.end - 1, ends = j == item.tiles.begin;  // the item, with this turn
      Flash3Item next = item;
      int next_j = j - 1;
      if (ends) {
        __syncwarp();  // every lane has read the item
        if (lane_ == 0) s_.q_ring.release(at_q_.stage());
        at_q_.advance();
        s_.q_ring.wait_full(at_q_);
        next = s_.item[at_q_.stage()];
        next_j = next.tiles.end - 1;
      }
      // Behind the release of Q: with room for one item, V comes when the next item's K has been asked for.
      if (begins && (j + 1) * kKeys > item.kv_len) {
        s_.v_ring.wait_full(at_v_);
        clear_rows(s_, at_v_.stage(), item.kv_len - j * kKeys, thread_);
      }
      if (next.sequence < 0) break;
      const RowState before = rows.state;
      turn(rows, scores, item, next, next_j, begins, ends);
      if (!C::kStoresLate && ends) store(rows, before, item);
      pack_fragments<typename C::Element>(rows.weights, scores);
      item = next;
      j = next_j;
    }
    last_values(rows, item);
  }

  // The weights of the first tile of all.
  __device__ __forceinline__ void first_scores(Rows& rows, float (&scores)[kKeys / 2], const Flash3Item& item,
                                               int j) {
    s_.k_ring.wait_full(at_k_);
    ptx::wgmma_fence();
    queue_scores(scores, s_, at_q_.stage(), at_k_.stage(), consumer_);
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    ptx::wgmma_pin(scores);
    if (lane_ == 0) s_.k_ring.release(at_k_.stage());
    at_k_.advance();
    soften(rows, scores, item, j);
    pack_fragments<typename C::Element>(rows.weights, scores);
  }

  // What is left when no item follows.
  __device__ __forceinline__ void last_values(Rows& rows, const Flash3Item& item) {
    if (C::kStoresLate && finished_.sequence >= 0) store(rows, rows.finished_state, finished_);
    s_.v_ring.wait_full(at_v_);
    ptx::wgmma_fence();
    queue_values<C>(rows.out, rows.weights, s_, at_v_.stage(), item.tiles.end - item.tiles.begin > 1);
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    ptx::wgmma_pin(rows.out);
    store(rows, rows.state, item);
  }

  // `item` has this tile, `next` the next one, its tile next_j, whose scores come.
  __device__ __forceinline__ void turn(Rows& rows, float (&scores)[kKeys / 2], const Flash3Item& item,
                                       const Flash3Item& next, int next_j, bool begins, bool ends) {
    s_.k_ring.wait_full(at_k_);
    turns_.take();
    ptx::wgmma_fence();
    queue_scores(scores, s_, at_q_.stage(), at_k_.stage(), consumer_);
    ptx::wgmma_commit();
    const bool stores = C::kStoresLate && finished_.sequence >= 0;
    if (stores) {  // under the multiplies of these scores: the values behind them want `out`
      turns_.pass_on();
      store(rows, rows.finished_state, finished_);
      finished_.sequence = -1;
    }
    s_.v_ring.wait_full(at_v_);
    ptx::wgmma_fence();
    queue_values<C>(rows.out, rows.weights, s_, at_v_.stage(), !begins);
    ptx::wgmma_commit();
    if (!stores) turns_.pass_on();
    ptx::wgmma_wait<1>();
    ptx::wgmma_pin(scores);
    if (lane_ == 0) s_.k_ring.release(at_k_.stage());
    at_k_.advance();
    if (ends) {
      if (C::kStoresLate) {
        finished_ = item;
        rows.finished_state = rows.state;
      }
      rows.state = RowState{};
    }
    soften(rows, scores, next, next_j);
    // The wait stands in branches of its own: the compiler moves it up to the beginning of its block, and
    // before the softmax it would undo the overlap. All warps of the group take the same one, as the
    // instruction demands.
    ptx::wgmma_pin(scores);
    if (ends) {
      values_done(rows);
    } else {
      values_done(rows);
      if (__any_sync(0xffffffff, rows.correction[0] != 1 || rows.correction[1] != 1)) {
#pragma unroll
        for (int i = 0; i < C::kDim / 2; ++i) rows.out[i] *= rows.correction[i / 2 % 2];
      }
    }
  }

  __device__ __forceinline__ void values_done(Rows& rows) {
    ptx::wgmma_wait<0>();
    ptx::wgmma_pin(rows.out);
    if (lane_ == 0) s_.v_ring.release(at_v_.stage());
    at_v_.advance();
  }

  // Scores of tile j to weights.
  __device__ __forceinline__ void soften(Rows& rows, float (&scores)[kKeys / 2], const Flash3Item& item,
                                         int j) {
    const int first = item.position0 + (row_ >> pack_log2_),
              last = item.position0 + ((row_ + 15) >> pack_log2_);
    const int end = p_.cut.causal ? first + 1 : item.kv_len;
    if ((j + 1) * kKeys > end || (window_ > 0 && j * kKeys < last + 1 - window_))
      flash3_mask<kKeys>(scores, p_.cut, item, row_, j * kKeys, lane_);
    online_softmax<kSlack>(scores, rows.state, rows.correction, p_.scale_log2);
  }

  __device__ __forceinline__ void store(Rows& rows, const RowState& finished, const Flash3Item& of) {
    if (p_.cut.splits > 1)
      store_partial<C>(p_, rows.out, finished, of, row_, lane_);
    else
      store_rows(p_, s_, rows.out, finished, of, thread_);
  }

  const Flash3Params& p_;
  Flash3Storage<C>& s_;
  const int consumer_;
  const int thread_ = threadIdx.x % 128, lane_ = thread_ % 32;
  const int row_ = static_cast<int>(threadIdx.x - 128) / 32 * 16;  // of the item, the warp's first
  const int pack_log2_ = p_.cut.pack_log2, window_ = p_.cut.window;
  const Turns<C::kConsumers, kFlash3Turn> turns_;
  RingCursor<C::kStages> at_k_, at_v_;
  RingCursor<C::kItems> at_q_;
  Flash3Item finished_;  // and not yet stored, unless its sequence is negative
};

}  // namespace llamita::device
