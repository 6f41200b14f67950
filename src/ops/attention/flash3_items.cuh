// The work items of flash3_sm90 and the way from a ticket to one: the same arithmetic on the host, in the
// producer and in combine.
//
// Item: kRows rows of one unit of heads against tiles of C::kKeys keys. Where the number of query heads a KV
// head divides the 64 rows of a consumer, a unit is the whole group and a row is (token, head of the group);
// else a unit is one head. Items come from a ticket counter: the sequences in order, inside one its rows from
// the last to the first (longest first), heads in equal sets whose keys and values fit in half of L2. Items
// of one tile of keys whose sequence has longer ones come behind all others: with small ones of all sequences
// at the end all SMs end together. Where all of a sequence's items are as short they stay in their place: a
// walk that passes over whole sequences would keep consumers waiting. Split keys: the key tiles of an item
// are cut into `splits` parts at borders that follow from lengths alone.
#pragma once

#include <cuda.h>

#include <climits>
#include <cstdint>

namespace llamita::device {

// How rows, heads and keys are cut: the same on the host, in the kernel and in combine.
struct Flash3Cut {
  int heads;
  int pack_log2;     // heads of a unit
  int rows;          // of an item
  int keys;          // of a tile
  int units_per_kv;  // units that read one KV head
  int splits;
  int window;  // 0: all keys
  bool causal;

  __host__ __device__ int units() const { return heads >> pack_log2; }
  __host__ __device__ int tokens() const { return rows >> pack_log2; }  // of an item
};

struct KeyTiles {
  int begin, end;
};

// The key tiles that tokens at positions first .. last of a sequence of kv_len keys see.
__host__ __device__ inline KeyTiles key_tiles(const Flash3Cut& cut, int first, int last, int kv_len) {
  const int seen_from = cut.window > 0 ? first + 1 - cut.window : 0;
  return {seen_from > 0 ? seen_from / cut.keys : 0, (cut.causal ? last : kv_len - 1) / cut.keys + 1};
}

struct Flash3Params {
  CUtensorMap q;    // (T, H, D), box (tokens of an item, heads of a unit, 64)
  CUtensorMap k;    // (pages, Hkv, 64, D), box (1, 1, 64, 64)
  CUtensorMap v;    // as k
  CUtensorMap out;  // (T, H, D), box (tokens of 64 rows, heads of a unit, 64)
  Flash3Cut cut;
  const int32_t* q_start;      // (B+1)
  const int32_t* kv_len;       // (B)
  const int32_t* block_table;  // (B, max_blocks)
  uint32_t* tickets;           // tickets drawn, blocks done: zero before and after every launch
  int max_blocks;
  int sequences;
  int tokens;  // T
  float scale_log2;
  int kv_fit;      // keys of one KV head whose K and V fill half of L2
  void* out_data;  // element type of q
  int64_t out_stride;
  float* partial;  // (splits, T, H, D), with splits > 1
  float2* states;  // (splits, T, H): highest score, sum
};

struct Flash3Item {
  int sequence;  // negative: no more items
  int unit;
  int token0;        // row of q
  int valid_tokens;  // of the item
  int position0;     // of token0
  int kv_len;
  int split;
  KeyTiles tiles;
};

// Where a walk over the items stands: in this sequence, whose first item has the index `base`. It comes to
// every sequence, then once more to those from the first on that put short items off.
struct Flash3Walk {
  int sequence, base, count;
  int q_begin, q_len, kv_len;
  int row_tiles, row_end;  // of the items: how many, and behind the last
  int first_put_off;       // the first sequence that puts items off
  int put_off;             // items, so far
  int end;                 // of all items; known when those are taken
  bool takes_short;
  int ticket;          // of the next item
  uint32_t published;  // items, and what tells of their end
};

// Walks over the items in ascending order of their index; made for the producer's one thread, which has few
// registers, so that the walk stands in shared memory. On the host for tests.
class Flash3Items {
 public:
  __host__ __device__ __forceinline__ Flash3Items(const Flash3Params& p, Flash3Walk& walk)
      : p_(p), at_(walk) {
    at_.sequence = at_.base = at_.put_off = 0;
    at_.first_put_off = p_.sequences;
    at_.end = INT_MAX;
    at_.takes_short = false;
    at_.published = 0;
    enter();
  }

  // False when there is no such item. An item without keys of its own has tiles.begin == tiles.end.
  __host__ __device__ __forceinline__ bool find(int index, Flash3Item& item) {
    while (index >= at_.base + at_.count) {
      if (index >= at_.end) return false;
      at_.base += at_.count;
      if (++at_.sequence >= p_.sequences) {
        at_.sequence = at_.first_put_off;
        at_.end = at_.base + at_.put_off;
        at_.takes_short = true;
      }
      enter();
    }
    const Flash3Cut& cut = p_.cut;
    int inside = index - at_.base;
    const int split = inside % cut.splits;
    inside /= cut.splits;
    // Unit `inside / row_tiles` lies in the set of units first .. first + width - 1.
    const int units = cut.units(), sets = sets_of(at_.kv_len);
    const int set = ((inside / at_.row_tiles + 1) * sets - 1) / units;
    const int first = set * units / sets, width = (set + 1) * units / sets - first;
    inside -= first * at_.row_tiles;
    const int first_token = (at_.row_end - 1 - inside / width) * cut.tokens();
    item.sequence = at_.sequence;
    item.unit = first + inside % width;
    item.token0 = at_.q_begin + first_token;
    item.valid_tokens = min(cut.tokens(), at_.q_len - first_token);
    item.position0 = at_.kv_len - at_.q_len + first_token;
    item.kv_len = at_.kv_len;
    item.split = split;
    const KeyTiles all = key_tiles(cut, item.position0, item.position0 + item.valid_tokens - 1, item.kv_len);
    const int count = all.end - all.begin, parts = min(cut.splits, count);
    item.tiles = {all.begin, all.begin};
    if (split < parts)
      item.tiles = {all.begin + count * split / parts, all.begin + count * (split + 1) / parts};
    return true;
  }

 private:
  // Equal to one: what is left for the last set must still give every SM some items, long ones first.
  __host__ __device__ __forceinline__ int sets_of(int kv_len) const {
    const int fit = max(p_.kv_fit / max(kv_len, 1) * p_.cut.units_per_kv, 1), units = p_.cut.units();
    return (units + fit - 1) / fit;
  }

  __host__ __device__ __forceinline__ void enter() {
    at_.count = 0;
    if (at_.sequence >= p_.sequences) return;
    at_.q_begin = p_.q_start[at_.sequence];
    at_.q_len = p_.q_start[at_.sequence + 1] - at_.q_begin;
    at_.kv_len = p_.kv_len[at_.sequence];
    const int tokens = p_.cut.tokens(), rows = (at_.q_len + tokens - 1) / tokens;
    const int row_items = p_.cut.units() * p_.cut.splits;
    const int few = p_.cut.keys - (at_.kv_len - at_.q_len);  // tokens that see one tile of keys
    int short_rows = p_.cut.causal && few > 0 ? few / tokens : 0;
    if (short_rows >= rows) short_rows = 0;
    at_.row_end = at_.takes_short ? short_rows : rows;
    at_.row_tiles = at_.takes_short ? short_rows : rows - short_rows;
    at_.count = at_.row_tiles * row_items;
    if (at_.takes_short || short_rows == 0) return;
    if (at_.put_off == 0) at_.first_put_off = at_.sequence;
    at_.put_off += short_rows * row_items;
  }

  const Flash3Params& p_;
  Flash3Walk& at_;
};

}  // namespace llamita::device
