// CpuProduct: a linear on the CPU in pieces, for whoever decides what a parallel region holds: linear itself,
// with a region for the activations and one for the rows, and fused ops, which do more in each (attn_in,
// mlp_in). How tokens and rows are cut changes no bit: a row of rounded activations depends on nothing but
// its token, an output on nothing but its row and token.
#pragma once

#include <algorithm>

#include "ops/linear/int8.h"
#include "ops/linear/linear.h"

namespace llamita {

// What a variant is made of. A part in a block format goes to int8_multiply where there is one, every part to
// bf16_multiply where there is one, all else to the plain two.
struct CpuKernels {
  using Multiply = void (*)(const LinearJob& job, int64_t begin, int64_t end);
  int64_t unit;  // rows that fill a kernel's registers or panel: what a thread takes at the least
  Multiply plain_few = nullptr;   // up to plain_few_tokens
  Multiply plain_many = nullptr;  // more; the same bits
  int64_t plain_tile_lanes = 0;   // of the tiles of x that plain_many reads; 0: it reads rows
  int64_t plain_few_tokens = 7;   // from eight on the panels are faster with AVX2

  void (*int8_round_row)(const float* x, int64_t K, int64_t t, const Int8Rows& to) = nullptr;
  void (*int8_pack_tile)(int64_t K, int64_t t, int64_t count, const Int8Rows& x) = nullptr;  // or rows do
  void (*int8_multiply)(const Int8Job& job, int64_t begin, int64_t end) = nullptr;
  int64_t int8_few_tokens = 0;   // of an interleaved weight, which need no tiles
  bool int8_reads_rows = false;  // of an interleaved weight too, which is put back for it

  void (*bf16_round_row)(const float* x, int64_t K, uint16_t* to) = nullptr;
  void (*bf16_multiply)(const Bf16Job& job, int64_t begin, int64_t end) = nullptr;
};

// Those of the variant that linear chooses by itself; nullptr where that is the reference, which cannot be
// cut.
const CpuKernels* linear_cpu_kernels(const LinearArgs& args, const Caps& caps);

class CpuProduct {
 public:
  // Takes its scratch from the arena, which may be a measuring one. args.out may be undefined.
  CpuProduct(const LinearArgs& args, const CpuKernels& kernels, Arena& arena);

  // Tokens [begin, end) of x become what the kernels read: rounded, packed or filled up with zeros. All must
  // be prepared before any row is multiplied; any thread may prepare any of them, once.
  void prepare(int64_t begin, int64_t end) const;
  bool prepares() const { return needs_of32_ || needs_of256_ || bf16_.used || pads_ || tiles_plain_; }
  // Tokens that a thread prepares at once, where `operations` more are done for an element of each.
  int64_t token_grain(int64_t operations = 0) const;

  // Rows of a part. `first` is the row of the whole weight that `begin` is.
  struct Rows {
    size_t part = 0;
    int64_t begin = 0, end = 0, first = 0;
  };
  // Their outputs for all tokens, that of the first row and token at *out. `begin` is a multiple of unit().
  void multiply(const Rows& rows, float* out, int64_t out_stride) const;
  // The same to args.out.
  void multiply(const Rows& rows) const {
    multiply(rows, args_.out.ptr<float>() + rows.first, args_.out.stride(0));
  }

  // The rows of all parts in units, none of which holds rows of two parts.
  int64_t unit() const { return unit_; }
  int64_t units() const;
  // body(rows) for the rows of units [begin, end), in one piece for each part.
  template <class Body>
  void for_rows(int64_t begin, int64_t end, Body body) const {
    int64_t first_unit = 0, first = 0;
    for (size_t part = 0; part < parts().size(); ++part) {
      const int64_t rows = parts()[part].rows, units = (rows + unit_ - 1) / unit_;
      const int64_t from = std::max(begin - first_unit, int64_t{0}) * unit_;
      const int64_t to = std::min((end - first_unit) * unit_, rows);
      if (from < to) body(Rows{part, from, to, first + from});
      first_unit += units;
      first += rows;
    }
  }
  // Units that a thread takes at once, of `rows` rows each.
  int64_t row_grain(int64_t rows) const;

  int64_t K() const { return args_.weight->cols; }
  int64_t T() const { return args_.x.dim(0); }

 private:
  const std::vector<quant::Part>& parts() const { return args_.weight->parts; }
  bool needs(Int8Run run) const;
  Int8Rows take_rounded(Int8Run run, Arena& arena) const;
  void prepare_token(int64_t t) const;
  void tile_plain(const float* x, int64_t t) const;
  LinearJob job_of(const Rows& rows, float* out, int64_t out_stride) const;

  LinearArgs args_;
  const CpuKernels& kernels_;
  int64_t unit_;
  bool needs_of32_ = false, needs_of256_ = false, packs_ = false, pads_ = false, tiles_plain_ = false;
  Int8Rows of32_, of256_;
  int32_t* left_ = nullptr;   // (tiles): tokens of a tile that are not yet rounded; where tiles are packed
  Tensor x_;                  // what the plain kernels read, and
  float* x_tiles_ = nullptr;  // the same in the tiles of kernels.h
  struct {
    bool used = false;
    uint16_t* x = nullptr;  // (T, groups of 32 that hold K)
  } bf16_;
};

// linear by these kernels, and the scratch it takes.
void run_product(const LinearArgs& args, const CpuKernels& kernels, Context& context);
int64_t product_scratch_bytes(const LinearArgs& args, const CpuKernels& kernels);

}  // namespace llamita
