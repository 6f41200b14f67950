#include "lessons/attention_bench.h"

#include <chrono>
#include <cmath>
#include <cstdio>
#include <random>

#include "lessons/attention_check.h"
#include "lessons/bench.h"

namespace llamita::lessons {

namespace {

float usual_scale(int dim) { return 1 / std::sqrt(static_cast<float>(dim)); }

// Lengths around every tile size, sequences shorter than a tile, GQA; every other shape with scores so large
// that a few keys win and the running maximum moves.
std::vector<AttentionShape> check_shapes() {
  const int sizes[][4] = {{1, 1, 1, 1},    {2, 7, 2, 1},   {1, 64, 3, 3},   {2, 65, 4, 2},  {1, 127, 2, 2},
                          {1, 128, 2, 1},  {3, 129, 2, 2}, {1, 191, 4, 1},  {1, 193, 2, 2}, {2, 257, 6, 3},
                          {1, 384, 16, 8}, {2, 500, 4, 4}, {1, 1025, 8, 2}, {4, 640, 8, 8}, {1, 2048, 2, 1}};
  std::vector<AttentionShape> shapes;
  for (const auto& s : sizes)
    for (int dim : {64, 128})
      for (bool causal : {true, false})
        shapes.push_back(
            {s[0], s[1], s[2], s[3], dim, causal, shapes.size() % 3 == 0 ? 0.7f : usual_scale(dim)});
  return shapes;
}

}  // namespace

std::vector<AttentionShape> attention_shapes() {
  std::vector<AttentionShape> shapes;
  for (int dim : {64, 128})
    for (bool causal : {true, false})
      for (int tokens : {2048, 4096, 8192, 16384})
        shapes.push_back({16384 / tokens, tokens, 16, 16, dim, causal, usual_scale(dim)});
  return shapes;
}

double attention_flop(const AttentionShape& s) {
  return 4.0 * s.batch * s.heads * s.tokens * s.tokens * s.dim * (s.causal ? 0.5 : 1);
}

struct AttentionBench::Buffers {
  std::vector<Guarded> q, k, v, out;
  AttentionShape shape;

  Buffers(const AttentionShape& s, size_t sets, uint64_t seed, const cuda::Stream& stream) : shape(s) {
    const size_t rows = size_t(s.batch) * s.tokens * s.dim;
    for (size_t i = 0; i < sets; ++i) {
      q.emplace_back(rows * s.heads, stream);
      k.emplace_back(rows * s.kv_heads, stream);
      v.emplace_back(rows * s.kv_heads, stream);
      out.emplace_back(rows * s.heads, stream);
      fill_uniform(q[i].data(), q[i].count, seed + 4 * i, stream);
      fill_uniform(k[i].data(), k[i].count, seed + 4 * i + 1, stream);
      fill_uniform(v[i].data(), v[i].count, seed + 4 * i + 2, stream);
    }
    stream.synchronize();
  }
  Attention problem(size_t i) const {
    const size_t set = i % q.size();
    return {q[set].data(), k[set].data(),  v[set].data(), out[set].data(), shape.batch, shape.tokens,
            shape.heads,   shape.kv_heads, shape.dim,     shape.causal,    shape.scale};
  }
};

AttentionBench::AttentionBench()
    : device_(cuda::device_properties(0)),
      tickets_(cuda::allocate_storage(2 * sizeof(uint32_t), 0)),
      seed_(std::random_device{}()) {
  cuda::fill_async(tickets_.data(), 0, tickets_.bytes(), stream_);
}

AttentionContext AttentionBench::context(const Storage& workspace) const {
  return {stream_.get(), device_.sm_count, device_.l2_bytes, static_cast<float*>(workspace.data()),
          static_cast<uint32_t*>(tickets_.data())};
}

namespace {

Storage workspace_for(const AttentionLesson& lesson, const AttentionShape& s, const cuda::Stream& stream) {
  if (!lesson.workspace) return {};
  Storage workspace =
      cuda::allocate_storage(size_t(s.batch) * s.tokens * s.heads * (s.dim + 2) * sizeof(float), 0);
  cuda::fill_async(workspace.data(), 0xFF, workspace.bytes(), stream);
  return workspace;
}

}  // namespace

bool AttentionBench::check(const AttentionLesson& lesson) {
  int failed = 0;
  double worst = 0;
  const std::vector<AttentionShape> shapes = check_shapes();
  for (const AttentionShape& shape : shapes) {
    const Buffers buffers(shape, 1, seed_ += 101, stream_);
    const Storage workspace = workspace_for(lesson, shape, stream_);
    const Attention p = buffers.problem(0);
    lesson.run(p, context(workspace));
    const AttentionError error = compare_with_fp64(p, size_t{1} << 40, stream_);
    const bool inside = buffers.out[0].guards_intact(stream_);
    worst = std::max(worst, error.relative);
    if (error.ok && inside) continue;
    ++failed;
    std::printf("%-18s WRONG at B %d T %d H %d/%d D %d %s: relative error %.2e, worst %s%s\n", lesson.name,
                shape.batch, shape.tokens, shape.heads, shape.kv_heads, shape.dim,
                shape.causal ? "causal" : "full", error.relative, error.worst.c_str(),
                inside ? "" : ", wrote outside O");
  }
  std::printf("%-18s check %s: %zu shapes, %d wrong, relative error up to %.2e\n", lesson.name,
              failed == 0 ? "pass" : "FAIL", shapes.size(), failed, worst);
  return failed == 0;
}

bool AttentionBench::time(const AttentionLesson& lesson, const AttentionShape& shape) {
  constexpr size_t kSets = 2;  // of 134 MB and more: L2 has forgotten one before it is used again
  const Buffers buffers(shape, kSets, seed_ += 101, stream_);
  const Storage workspace = workspace_for(lesson, shape, stream_);
  const AttentionContext at = context(workspace);
  const auto run = [&](int i) { lesson.run(buffers.problem(i), at); };
  const TimedGraph once(stream_, 1, run);
  once.microseconds();
  const double guess_us = once.microseconds();
  const TimedGraph graph(stream_, std::clamp(static_cast<int>(5000 / guess_us), 2, 32), run);
  std::vector<double> us;
  const auto start = std::chrono::steady_clock::now();
  for (double seconds = 0; seconds < 0.4 || us.size() < 3;) {
    const double x = graph.microseconds();
    seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (seconds > 0.15 || guess_us > 20000) us.push_back(x);
  }
  buffers.out[0].poison(stream_);
  run(0);
  const bool right = compare_with_fp64(buffers.problem(0), 257, stream_).ok;
  std::printf("%-18s T %5d D %3d %-6s %10.1f us %8.2f TFLOP/s%s\n", lesson.name, shape.tokens, shape.dim,
              shape.causal ? "causal" : "full", median(us), attention_flop(shape) / median(us) * 1e-6,
              right ? "" : "   WRONG");
  std::fflush(stdout);
  return right;
}

}  // namespace llamita::lessons
