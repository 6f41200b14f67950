#include "ops/attention/attention.h"

#include <algorithm>
#include <numeric>

#include "ops/kv_write/kv_write.h"
#include "ops/op_test_support.h"
#include "quant/kv_side.h"

namespace llamita {
namespace {

using test::Errors;
using test::Machine;
using test::Matrix;

constexpr int64_t kPages = 24;

int32_t sum_of(const std::vector<int32_t>& values) {
  return std::accumulate(values.begin(), values.end(), 0);
}

// Sequences in a paged cache whose pages are shuffled and whose unused slots are NaN.
struct Scene {
  struct Shape {
    int64_t H = 6, Hkv = 2, D = 64;
    int window = 0;
    DType dtype = DType::f16;
    bool causal = true;
  };

  // Sequence b has `kv_len[b]` keys and its last `rows[b]` tokens are in the step.
  Scene(Shape s, std::vector<int32_t> rows, std::vector<int32_t> lens)
      : shape(s),
        q_rows(std::move(rows)),
        kv_len(std::move(lens)),
        q(sum_of(q_rows), s.H * s.D, 3),
        out(q.rows, s.H * s.D, 5) {
    const Tensor side = kv_side(nullptr, {s.dtype}, kPages, s.Hkv, s.D);
    k_bytes.assign(static_cast<size_t>(kv_side_bytes(side)), 0xff);  // NaN in all dtypes, of i8 the scales
    v_bytes = k_bytes;
    q_start = {0};
    for (const int32_t n : q_rows) q_start.push_back(q_start.back() + n);
    max_blocks = (*std::max_element(kv_len.begin(), kv_len.end()) + kPageTokens - 1) / kPageTokens + 1;
    table.assign(kv_len.size() * static_cast<size_t>(max_blocks), -1);  // what is not used is no page
    std::vector<int32_t> pages(kPages);
    std::iota(pages.begin(), pages.end(), 0);
    std::shuffle(pages.begin(), pages.end(), std::mt19937(11));
    for (size_t b = 0, next = 0; b < kv_len.size(); ++b) {
      for (int64_t i = 0; i * kPageTokens < kv_len[b]; ++i)
        table[b * size_t(max_blocks) + size_t(i)] = pages[next++];
    }
    fill_tokens();
    plan = plan_attention(q_start, kv_len);
  }

  // Contents depend on (sequence, position) alone, so that scenes cut differently hold the same tokens.
  void fill_tokens() {
    for (size_t b = 0; b < kv_len.size(); ++b) {
      std::mt19937 random(static_cast<uint32_t>(100 + b));
      std::normal_distribution<float> normal;
      Matrix k(kv_len[b], shape.Hkv * shape.D), v(kv_len[b], shape.Hkv * shape.D);
      std::vector<int64_t> slots;
      for (int32_t p = 0; p < kv_len[b]; ++p) {
        for (int64_t i = 0; i < k.cols; ++i) k.row(p)[i] = normal(random), v.row(p)[i] = normal(random);
        for (int64_t i = 0; i < q.cols; ++i) {
          const float value = 2 * normal(random);
          const int32_t row = p - (kv_len[b] - q_rows[b]);
          if (row >= 0) q.row(q_start[b] + row)[i] = value;
        }
        slots.push_back(int64_t{page_of(b, p)} * kPageTokens + p % kPageTokens);
      }
      Machine machine(1, cpu::Isa::generic, 4096);
      kv_write({k.tensor().split_last(shape.Hkv), v.tensor().split_last(shape.Hkv),
                Tensor::of(slots.data(), {kv_len[b]}), cache(k_bytes), cache(v_bytes)},
               machine.context());
      for (Matrix* m : {&k, &v}) {
        for (int64_t r = 0; r < m->rows; ++r) {
          for (int64_t head = 0; head < shape.Hkv; ++head) round_row(m->row(r) + head * shape.D);
        }
      }
      keys.push_back(std::move(k));
      values.push_back(std::move(v));
    }
  }

  int32_t page_of(size_t b, int64_t key) const {
    return table[b * size_t(max_blocks) + size_t(key / kPageTokens)];
  }
  // A row of D as the cache has it.
  void round_row(float* row) const {
    std::vector<int8_t> integers(static_cast<size_t>(shape.D));
    const float scale = to_float(quantize_kv_row(row, shape.D, integers.data()));
    for (int64_t d = 0; d < shape.D; ++d) {
      if (shape.dtype == DType::f16) row[d] = to_float(to_f16(row[d]));
      if (shape.dtype == DType::bf16) row[d] = to_float(to_bf16(row[d]));
      if (shape.dtype == DType::i8) row[d] = scale * static_cast<float>(integers[size_t(d)]);
    }
  }
  Tensor cache(std::vector<uint8_t>& bytes) const {
    return kv_side(bytes.data(), {shape.dtype}, kPages, shape.Hkv, shape.D);
  }
  // Writes the key and the value of one position again.
  void write(size_t b, int32_t position, Matrix& k, Matrix& v) {
    int64_t slot = int64_t{page_of(b, position)} * kPageTokens + position % kPageTokens;
    Machine machine(1, cpu::Isa::generic, 4096);
    kv_write({k.tensor().split_last(shape.Hkv), v.tensor().split_last(shape.Hkv), Tensor::of(&slot, {1}),
              cache(k_bytes), cache(v_bytes)},
             machine.context());
  }

  AttentionArgs args() {
    const auto B = static_cast<int64_t>(kv_len.size());
    return {.q = q.tensor().split_last(shape.H),
            .k_cache = cache(k_bytes),
            .v_cache = cache(v_bytes),
            .q_start = Tensor::of(q_start.data(), {B + 1}),
            .kv_len = Tensor::of(kv_len.data(), {B}),
            .block_table = Tensor::of(table.data(), {B, max_blocks}),
            .plan = &plan,
            .scale = 0.125f,
            .window = shape.window,
            .causal = shape.causal,
            .out = out.tensor().split_last(shape.H)};
  }

  // Softmax attention over the contiguous keys and values, in double.
  Errors errors() const {
    Errors errors;
    const int64_t D = shape.D;
    for (size_t b = 0; b < kv_len.size(); ++b) {
      for (int64_t t = q_start[b]; t < q_start[b + 1]; ++t) {
        const int64_t position = kv_len[b] - (q_start[b + 1] - t);
        const int64_t first = shape.window > 0 ? std::max<int64_t>(0, position + 1 - shape.window) : 0;
        const int64_t end = shape.causal ? position + 1 : kv_len[b];
        for (int64_t head = 0; head < shape.H; ++head) {
          const int64_t column = head / (shape.H / shape.Hkv) * D;
          std::vector<double> result(static_cast<size_t>(D));
          double sum = 0;
          for (int64_t key = first; key < end; ++key) {
            double dot = 0;
            for (int64_t d = 0; d < D; ++d)
              dot += double{q.row(t)[head * D + d]} * keys[b].row(key)[column + d];
            const double weight = std::exp(dot * 0.125);  // no overflow: |dot| stays below 200
            sum += weight;
            for (int64_t d = 0; d < D; ++d) result[size_t(d)] += weight * values[b].row(key)[column + d];
          }
          for (int64_t d = 0; d < D; ++d) {
            errors.add((t * shape.H + head) * D + d, out.row(t)[head * D + d], result[size_t(d)] / sum);
          }
        }
      }
    }
    return errors;
  }

  Shape shape;
  std::vector<int32_t> q_rows, kv_len, q_start, table;
  int64_t max_blocks = 0;
  Matrix q, out;
  std::vector<uint8_t> k_bytes, v_bytes;
  std::vector<Matrix> keys, values;
  AttentionPlan plan;
};

TEST(Attention, EveryVariantAgreesWithDouble) {
  Machine machine(0, cpu::best_isa());
  const std::vector<Scene::Shape> shapes = {
      {},
      {.H = 4, .Hkv = 4, .D = 32, .dtype = DType::f32},
      {.H = 8, .Hkv = 1, .D = 80, .dtype = DType::bf16},
      {.H = 3, .Hkv = 1, .D = 128, .window = 70},
      {.H = 2, .Hkv = 2, .D = 20, .window = 1},
      {.H = 2, .Hkv = 1, .D = 256, .window = 64, .dtype = DType::f32},
      {.H = 4, .Hkv = 2, .D = 64, .causal = false},
      {.dtype = DType::i8},
      {.H = 4, .Hkv = 4, .D = 32, .window = 7, .dtype = DType::i8},
      {.H = 8, .Hkv = 1, .D = 80, .dtype = DType::i8},
      {.H = 2, .Hkv = 2, .D = 20, .window = 1, .dtype = DType::i8},
      {.H = 2, .Hkv = 1, .D = 16, .window = 70, .dtype = DType::i8},
      {.H = 10, .Hkv = 2, .D = 256, .dtype = DType::i8},
      {.H = 3, .Hkv = 1, .D = 64, .dtype = DType::i8, .causal = false},
  };
  for (const Scene::Shape& shape : shapes) {
    for (const Variant<AttentionArgs>& variant : attention_op().variants) {
      // Decode, a page's border, a whole prompt, a chunk after a prefix, and a sequence that sits out.
      Scene scene(shape, {1, 1, 33, 40, 0, 1}, {1, 64, 33, 200, 5, 129});
      const AttentionArgs args = scene.args();
      if (!variant.supports(args, machine.context().caps())) continue;
      attention_op().check(args);
      variant.run(args, machine.context());
      // The kernels of int8 round queries and weights to 16 bits; the bar of 8 bits is 1.2e-5.
      const double bound = shape.dtype == DType::i8 && variant.name != "reference" ? 1e-8 : 1e-10;
      test::expect_nmse(scene.errors(), bound,
                        cat(variant.name, " ", name(shape.dtype), " D ", shape.D, " window ", shape.window,
                            shape.causal ? "" : " full"));
    }
  }
}

TEST(Attention, AStepWithoutTokensIsNothing) {
  Machine machine(0, cpu::best_isa());
  for (const Variant<AttentionArgs>& variant : attention_op().variants) {
    Scene scene({}, {0}, {5});
    if (variant.supports(scene.args(), machine.context().caps()))
      variant.run(scene.args(), machine.context());
  }
}

TEST(Attention, LargeScoresDoNotOverflow) {
  Machine machine(1, cpu::best_isa());
  for (const DType dtype : {DType::f16, DType::i8}) {
    for (const Variant<AttentionArgs>& variant : attention_op().variants) {
      Scene scene({.dtype = dtype}, {3}, {130});
      AttentionArgs args = scene.args();
      if (!variant.supports(args, machine.context().caps())) continue;
      args.scale = 1000;  // the softmax picks one key
      variant.run(args, machine.context());
      for (int64_t i = 0; i < scene.out.cols; ++i) ASSERT_TRUE(std::isfinite(scene.out.row(2)[i])) << i;
    }
  }
}

// Every product of the integer kernels at its most, of one sign.
TEST(Attention, TheLargestIntegersDoNotOverflow) {
  Machine machine(1, cpu::best_isa());
  for (const Variant<AttentionArgs>& variant : attention_op().variants) {
    Scene scene({.H = 4, .Hkv = 1, .D = 256, .dtype = DType::i8}, {2}, {200});
    if (!variant.supports(scene.args(), machine.context().caps())) continue;
    Matrix key(1, 256), value(1, 256);
    std::fill_n(key.row(0), 256, -3.0f);
    for (int32_t position = 0; position < 200; ++position) {
      std::fill_n(value.row(0), 256, position % 2 == 0 ? 5.0f : 7.0f);
      scene.write(0, position, key, value);
    }
    for (int64_t row = 0; row < 2; ++row) std::fill_n(scene.q.row(row), scene.q.cols, -0.5f);
    variant.run(scene.args(), machine.context());
    for (int64_t i = 0; i < scene.out.cols; ++i)
      ASSERT_NEAR(scene.out.row(1)[i], 6, 1e-2) << variant.name << " at " << i;
  }
}

// What a broken layer writes is seen in the rows that see it, so that the engine can say so, and in no other.
TEST(Attention, ANumberThatIsNoneReachesTheRowsThatSeeItAlone) {
  Machine machine(0, cpu::best_isa());
  for (const DType dtype : {DType::f16, DType::i8}) {
    for (const Variant<AttentionArgs>& variant : attention_op().variants) {
      for (const bool of_keys : {true, false}) {
        Scene sound({.dtype = dtype}, {40}, {100}), broken({.dtype = dtype}, {40}, {100});
        if (!variant.supports(sound.args(), machine.context().caps())) continue;
        Matrix key(1, 128), value(1, 128);
        test::fill_normal(key, 1);
        test::fill_normal(value, 2);
        for (int64_t d = 0; d < 64; ++d) (of_keys ? key : value).row(0)[64 + d] = test::kNan;
        broken.write(0, 77, key, value);
        variant.run(sound.args(), machine.context());
        variant.run(broken.args(), machine.context());
        for (int64_t row = 0; row < 40; ++row) {
          const bool sees = 60 + row >= 77;
          for (int64_t i = 0; i < broken.out.cols; ++i) {
            const float got = broken.out.row(row)[i];
            if (!sees) {
              ASSERT_EQ(got, sound.out.row(row)[i]) << variant.name << " " << name(dtype) << " row " << row;
            } else {
              ASSERT_EQ(std::isnan(got), i >= 3 * 64) << variant.name << " " << name(dtype) << " row " << row;
            }
          }
        }
      }
    }
  }
}

TEST(Attention, AQueryThatIsNoneGivesNone) {
  Machine machine(1, cpu::best_isa());
  for (const DType dtype : {DType::f16, DType::i8}) {
    for (const Variant<AttentionArgs>& variant : attention_op().variants) {
      Scene scene({.dtype = dtype}, {2}, {70});
      if (!variant.supports(scene.args(), machine.context().caps())) continue;
      scene.q.row(0)[5] = test::kNan;
      variant.run(scene.args(), machine.context());
      for (int64_t d = 0; d < 64; ++d) ASSERT_TRUE(std::isnan(scene.out.row(0)[d])) << variant.name;
      for (int64_t d = 64; d < scene.out.cols; ++d) ASSERT_TRUE(std::isfinite(scene.out.row(0)[d]));
    }
  }
}

struct IsaAndCache {
  cpu::Isa isa;
  DType dtype;
};
class AttentionBits : public testing::TestWithParam<IsaAndCache> {};

TEST_P(AttentionBits, PrefillChunksAndDecodeGiveTheSameBitsAloneAndInCompany) {
  const auto [isa, dtype] = GetParam();
  if (isa > cpu::best_isa()) GTEST_SKIP() << "this machine lacks " << cpu::name(isa);
  for (const int window : {0, 50}) {
    const Scene::Shape shape{.window = window, .dtype = dtype};
    Scene whole(shape, {150}, {150});
    Machine one(1, isa), all(0, isa);
    attention(whole.args(), one.context());
    const auto expect_row = [&](const Scene& scene, int64_t row, int64_t position) {
      ASSERT_EQ(std::memcmp(scene.out.row(row), whole.out.row(position), size_t(whole.out.cols) * 4), 0)
          << "position " << position << " window " << window;
    };
    for (const int32_t chunk : {1, 2, 7, 16, 64}) {  // the last `chunk` tokens of every prefix
      for (int32_t end = chunk; end <= 150; end += 13) {
        Scene part(shape, {chunk, 1, 20}, {end, 90, 20});
        attention(part.args(), all.context());
        for (int32_t row = 0; row < chunk; ++row) expect_row(part, row, end - chunk + row);
      }
    }
  }
}

// Contexts of several partitions of the keys, which one thread takes in turn and several share.
TEST_P(AttentionBits, SplittingTheKeysOverThreadsChangesNoBit) {
  const auto [isa, dtype] = GetParam();
  if (isa > cpu::best_isa()) GTEST_SKIP() << "this machine lacks " << cpu::name(isa);
  for (const int window : {0, 600}) {
    const Scene::Shape shape{.H = 4, .Hkv = 2, .D = 32, .window = window, .dtype = dtype};
    Scene whole(shape, {1400}, {1400});
    Machine one(1, isa), all(0, isa);
    attention(whole.args(), one.context());
    test::expect_nmse(whole.errors(), dtype == DType::i8 ? 1e-8 : 1e-10, "1400 keys");
    for (const int32_t chunk : {1, 3}) {
      for (const int32_t end : {3, 511, 512, 513, 514, 1024, 1025, 1300, 1400}) {
        for (Machine* machine : {&one, &all}) {
          Scene part(shape, {chunk}, {end});
          attention(part.args(), machine->context());
          for (int32_t row = 0; row < chunk; ++row) {
            ASSERT_EQ(
                std::memcmp(part.out.row(row), whole.out.row(end - chunk + row), size_t(whole.out.cols) * 4),
                0)
                << "position " << end - chunk + row << " window " << window;
          }
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Isas, AttentionBits,
    testing::Values(IsaAndCache{cpu::Isa::generic, DType::f16}, IsaAndCache{cpu::Isa::avx2, DType::f16},
                    IsaAndCache{cpu::Isa::avx512, DType::f16}, IsaAndCache{cpu::Isa::generic, DType::i8},
                    IsaAndCache{cpu::Isa::avx2, DType::i8}, IsaAndCache{cpu::Isa::avx512, DType::i8}),
    [](const auto& info) { return cat(cpu::name(info.param.isa), "_", name(info.param.dtype)); });

TEST(AttentionPlan, ItemsCoverEveryRowOnceLongestFirst) {
  const std::vector<int32_t> q_start = {0, 1, 1, 41, 42, 60}, kv_len = {7, 3, 40, 1000, 700};
  const AttentionPlan plan = plan_attention(q_start, kv_len);
  EXPECT_EQ(plan.max_kv_len, 1000);
  std::vector<int> covered(60);
  int64_t previous = INT64_MAX;
  for (const AttentionPlan::Item& item : plan.items) {
    const auto b = static_cast<size_t>(item.sequence);
    const int32_t rows = item.q_end - item.q_begin;
    EXPECT_TRUE(rows >= 1 && rows <= AttentionPlan::kRowsPerItem) << rows;
    EXPECT_TRUE(item.q_begin >= q_start[b] && item.q_end <= q_start[b + 1]) << "sequence " << b;
    EXPECT_EQ(item.first_position, kv_len[b] - (q_start[b + 1] - item.q_begin));
    for (int32_t row = item.q_begin; row < item.q_end; ++row) ++covered[static_cast<size_t>(row)];
    const int64_t work = int64_t{rows} * (item.first_position + rows);
    EXPECT_LE(work, previous);
    previous = work;
  }
  EXPECT_EQ(covered, std::vector<int>(60, 1));
  EXPECT_TRUE(plan_attention(std::vector<int32_t>{0}, {}).items.empty());
}

}  // namespace
}  // namespace llamita
