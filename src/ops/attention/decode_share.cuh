// How paged_decode_sm90 shares a step out: every block gets an equal run of pages, wherever sequences begin
// and end ("stream-K" for keys), so that the last wave is as full as the first.
//
// A segment is what one row tile of a sequence reads of one KV head: its pages in order, counted in units of
// `unit` pages. Segments stand in a row, sequence by sequence, row tile by row tile, head by head, and blocks
// take equal runs of units. Where segments alone load the blocks nearly evenly (a batch of short contexts), a
// unit is a whole segment and nothing is to be added up. Else, with few pages (one sequence) a unit is as
// many pages as give each SM one block, and blocks get one unit each; with many a unit is one page. A segment
// that several blocks share has as many parts; its last block to finish adds them in ascending order.
// Everything follows from the lengths on the device: a captured launch serves any step.
#pragma once

#include <climits>

#include "ops/attention/cuda_params.cuh"

namespace llamita::device {

inline constexpr int kDecodeRows = 16;  // packed rows of a tile: row = token * group + head of the group

// What parts and their sum cost a block, in pages (64 sequences of 192 or 250 keys are 5 us faster whole).
inline constexpr int kMergePages = 3;

struct DecodeParams {
  AttentionParams attention;
  float* partial_out;     // (2 grid, kDecodeRows, D)
  float2* partial_state;  // (2 grid, kDecodeRows): maximum in powers of two, sum
  unsigned* tickets;      // (segments), zero; null: no segment is shared
  int row_tiles;          // a sequence
  int sm_count;
  int cluster;  // blocks that share a segment, of ClusterShare
};

// Row tile `entry % row_tiles` of sequence `entry / row_tiles`.
struct DecodeEntry {
  int sequence;
  int first_row, rows;  // packed rows of this tile
  int first_token;      // of the sequence
  int first_position;   // of the sequence's first row; keys from here on are this step's own
  int first_page, pages;
  int end;  // keys
};

// Not inlined: it is called in many places, and a kernel of some microseconds pays for every line of code.
inline __device__ __noinline__ DecodeEntry decode_entry(const DecodeParams& d, int entry) {
  const AttentionParams& p = d.attention;
  DecodeEntry e;
  e.sequence = d.row_tiles == 1 ? entry : entry / d.row_tiles;
  e.first_row = (entry - e.sequence * d.row_tiles) * kDecodeRows;
  e.first_token = p.q_start[e.sequence];
  const int q_rows = p.q_start[e.sequence + 1] - e.first_token, keys = p.kv_len[e.sequence];
  e.rows = min(kDecodeRows, q_rows * p.group - e.first_row);
  e.first_position = keys - q_rows;
  const bool alone = d.row_tiles == 1;  // then the tile is all rows of the sequence
  const int first = alone ? 0 : e.first_row / p.group;
  const int last = alone ? q_rows - 1 : (e.first_row + e.rows - 1) / p.group;
  e.end = p.end_key(e.first_position + last, keys);
  e.first_page = p.first_key(e.first_position + first) / kPageTokens;
  e.pages = e.rows > 0 ? (e.end + kPageTokens - 1) / kPageTokens - e.first_page : 0;
  return e;
}

// What a block does now: pages page .. end_page - 1 of a segment.
struct DecodePiece {
  DecodeEntry entry;
  int segment;
  int kv_head;
  int page, end_page;
  int parts;        // blocks that share the segment
  int first_block;  // of them
};

// The blocks of a cluster share one segment of at most kMostRows rows, for which there is room in shared
// memory: equal runs of its pages, none for some where it has few. One piece a block.
class ClusterShare {
 public:
  static constexpr bool kClustered = true;
  static constexpr int kMostBlocks = 16, kMostRows = 8;

  __device__ __forceinline__ explicit ClusterShare(const DecodeParams& d) : d_(d) {}

  __device__ __forceinline__ bool next(DecodePiece& piece) {
    if (done_) return false;
    done_ = true;
    const int parts = d_.cluster, rank = static_cast<int>(blockIdx.x) % parts;
    piece.segment = static_cast<int>(blockIdx.x) / parts;
    piece.parts = parts;
    piece.first_block = piece.segment * parts;
    const int kv_heads = d_.attention.kv_heads;
    piece.kv_head = piece.segment % kv_heads;
    piece.entry = decode_entry(d_, piece.segment / kv_heads);
    piece.page = piece.entry.first_page + piece.entry.pages * rank / parts;
    piece.end_page = piece.entry.first_page + piece.entry.pages * (rank + 1) / parts;
    return piece.entry.pages > 0;
  }

 private:
  const DecodeParams& d_;
  bool done_ = false;
};

// Walks over a block's pieces. All lanes of a warp call everything together.
class DecodeShare {
 public:
  static constexpr bool kClustered = false;

  __device__ __forceinline__ explicit DecodeShare(const DecodeParams& d) : d_(d) {
    const int lane = threadIdx.x % 32;
    entries_ = d.attention.sequences * d.row_tiles;
    const int mine = lane < entries_ ? decode_entry(d, lane).pages : 0;
    const auto pages_at = [&](int base) {
      if (base == 0) return mine;
      return base + lane < entries_ ? decode_entry(d, base + lane).pages : 0;
    };
    const int kv_heads = d.attention.kv_heads;
    int pages = 0, longest = 0, segments = 0;
    for (int base = 0; base < entries_; base += 32) {
      const int own = pages_at(base);
      pages += own;
      longest = max(longest, own);
      segments += own > 0;
    }
    pages = __reduce_add_sync(0xffffffff, pages) * kv_heads;
    longest = __reduce_max_sync(0xffffffff, longest);
    segments = __reduce_add_sync(0xffffffff, segments) * kv_heads;
    set_unit(pages, longest, segments);
    units_ = 0;
    for (int base = 0; base < entries_; base += 32) units_ += units_of(pages_at(base));
    units_ = __reduce_add_sync(0xffffffff, units_) * kv_heads;
    if (take_run()) find(pages_at);
  }

  // False when the block has no more.
  __device__ __forceinline__ bool next(DecodePiece& piece) {
    if (at_ >= end_) return false;
    while (at_ >= segment_end_) {
      if (++head_ == d_.attention.kv_heads) {
        head_ = 0;
        do entry_ = decode_entry(d_, ++index_);
        while (entry_.pages == 0);
      }
      segment_begin_ = segment_end_;
      segment_end_ += units_of(entry_.pages);
    }
    const int last_page = entry_.first_page + entry_.pages;
    piece.entry = entry_;
    piece.segment = index_ * d_.attention.kv_heads + head_;
    piece.kv_head = head_;
    piece.page = entry_.first_page + (at_ - segment_begin_) * unit_;
    at_ = min(segment_end_, end_);
    piece.end_page = at_ == segment_end_ ? last_page : entry_.first_page + (at_ - segment_begin_) * unit_;
    piece.first_block = block_of(segment_begin_);
    piece.parts = block_of(segment_end_ - 1) - piece.first_block + 1;
    return true;
  }

 private:
  __device__ __forceinline__ void set_unit(int pages, int longest, int segments) {
    unit_ = 1;
    const int blocks = static_cast<int>(gridDim.x), most = (segments + blocks - 1) / blocks;  // a block
    if (d_.tickets == nullptr)
      unit_ = INT_MAX / 2;
    else if (most * longest <= pages / blocks + kMergePages)
      unit_ = max(1, longest);
    else if (pages < 8 * d_.sm_count)
      unit_ = max(1, (pages + d_.sm_count - 1) / d_.sm_count);
  }
  // The block's run of units; false when there is none.
  __device__ __forceinline__ bool take_run() {
    blocks_ = min(static_cast<int>(gridDim.x), units_);
    if (static_cast<int>(blockIdx.x) >= blocks_) return false;
    each_ = blocks_ == units_ ? 1 : units_ / blocks_;
    longer_ = units_ - each_ * blocks_;
    at_ = border(static_cast<int>(blockIdx.x));
    end_ = border(static_cast<int>(blockIdx.x) + 1);
    return true;
  }
  __device__ __forceinline__ int units_of(int pages) const {
    return unit_ == 1 ? pages : (pages + unit_ - 1) / unit_;
  }
  // The first `longer_` blocks have a unit more than the others' `each_`.
  __device__ __forceinline__ int border(int block) const { return each_ * block + min(block, longer_); }
  __device__ __forceinline__ int block_of(int unit) const {
    if (blocks_ == units_) return unit;
    const int shorter = longer_ * (each_ + 1);  // the first unit of the blocks without one more
    return unit < shorter ? unit / (each_ + 1) : longer_ + (unit - shorter) / each_;
  }
  // The segment that unit at_ belongs to.
  template <class PagesAt>
  __device__ __forceinline__ void find(const PagesAt& pages_at) {
    const int lane = threadIdx.x % 32, kv_heads = d_.attention.kv_heads;
    int before = 0;
    for (int base = 0;; base += 32) {
      const int own = units_of(pages_at(base)) * kv_heads;
      int through = own;
#pragma unroll
      for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_up_sync(0xffffffff, through, step);
        if (lane >= step) through += other;
      }
      const unsigned past = __ballot_sync(0xffffffff, before + through > at_);
      if (past == 0) {
        before += __shfl_sync(0xffffffff, through, 31);
        continue;
      }
      const int owner = __ffs(static_cast<int>(past)) - 1;
      before += __shfl_sync(0xffffffff, through - own, owner);
      index_ = base + owner;
      break;
    }
    entry_ = decode_entry(d_, index_);
    const int units = units_of(entry_.pages);
    head_ = (at_ - before) / units;
    segment_begin_ = before + head_ * units;
    segment_end_ = segment_begin_ + units;
  }

  const DecodeParams& d_;
  int entries_, unit_, units_, blocks_;
  int each_ = 0, longer_ = 0;
  int at_ = 0, end_ = 0;  // units of the block
  int index_ = 0, head_ = 0;
  int segment_begin_ = 0, segment_end_ = 0;  // units
  DecodeEntry entry_;
};

}  // namespace llamita::device
