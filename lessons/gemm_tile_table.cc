// The parts of GemmBench that look at every tile choice: what the cost model of steps 11 and 12 is fitted to.
#include <cmath>
#include <cstdio>
#include <span>

#include "lessons/bench.h"
#include "lessons/gemm_bench.h"
#include "lessons/gemm_buffers.h"
#include "lessons/gemm_check.h"
#include "lessons/gemm_tiles.h"

namespace llamita::lessons {

bool GemmBench::check_tiles() {
  int failed = 0;
  for (const TileChoice& choice : gemm_tile_choices())
    for (const Shape& shape : check_shapes()) {
      const Buffers buffers(shape, 1, seed_ += 101, stream_);
      const Gemm p = buffers.problem(0);
      if (std::isinf(choice_cycles(p, choice, context()))) continue;  // fewer steps of K than parts
      run_choice(p, choice, context());
      const GemmError error = compare_with_fp64(p, stream_);
      const bool inside = buffers.c[0].guards_intact(stream_);
      if (error.ok && inside) continue;
      ++failed;
      std::printf("tile 128x%d / %d WRONG at M %d N %d K %d: relative error %.2e, worst %s%s\n", choice.width,
                  choice.split, shape.m, shape.n, shape.k, error.relative, error.worst.c_str(),
                  inside ? "" : ", wrote outside C");
    }
  std::printf("all tile choices     check %s: %zu choices, %d wrong\n", failed == 0 ? "pass" : "FAIL",
              gemm_tile_choices().size(), failed);
  return failed == 0;
}

void GemmBench::time_tiles(const Shape& shape) {
  const Buffers buffers(shape, sets_for(shape), seed_ += 101, stream_);
  const std::span<const TileChoice> choices = gemm_tile_choices();
  size_t chosen = 0;
  std::vector<double> us, cycles;
  for (const TileChoice& choice : choices) {
    cycles.push_back(choice_cycles(buffers.problem(0), choice, context()));
    us.push_back(0);
    if (std::isinf(cycles.back())) continue;
    if (cycles.back() < cycles[chosen]) chosen = cycles.size() - 1;
    const TimedGraph graph(stream_, static_cast<int>(buffers.a.size()),
                           [&](int i) { run_choice(buffers.problem(i), choice, context()); });
    std::vector<double> samples;
    for (int i = 0; i < 7; ++i) samples.push_back(graph.microseconds());
    us.back() = median(samples);
  }
  std::printf("%5d x %5d x %5d", shape.m, shape.n, shape.k);
  for (size_t i = 0; i < choices.size(); ++i)
    std::printf("  %s%d/%d %.1f (%.0fk)", i == chosen ? "*" : "", choices[i].width, choices[i].split, us[i],
                cycles[i] * 1e-3);
  std::printf("\n");
  std::fflush(stdout);
}

}  // namespace llamita::lessons
