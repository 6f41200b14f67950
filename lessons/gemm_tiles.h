// Tile shapes of steps 11 and 12 and what the cost model says of them.
#pragma once

#include <span>

#include "lessons/gemm.h"

namespace llamita::lessons {

// A tile of 128 x width, its K range divided among `split` blocks of a cluster. split 1: the persistent
// kernel of step 11; more: step 12's.
struct TileChoice {
  int width;
  int split;
};

std::span<const TileChoice> gemm_tile_choices();

// Clocks that the model of the kernel expects; infinite when it cannot run the problem.
double persistent_cycles(const Gemm& p, int width, const GemmContext& context);
double split_cycles(const Gemm& p, TileChoice choice);

void run_persistent(const Gemm& p, int width, const GemmContext& context);
void run_split(const Gemm& p, TileChoice choice, const GemmContext& context);

// Either kind.
double choice_cycles(const Gemm& p, TileChoice choice, const GemmContext& context);
void run_choice(const Gemm& p, TileChoice choice, const GemmContext& context);

// What an SM can draw from L2 a clock, and what a step of 64 along K costs it: wgmma takes half a clock a
// column and 16 of K, each of the two consumers for itself; some 24 clocks go into waiting and queueing.
inline constexpr double kL2BytesPerClock = 45;
inline double step_cycles(int width, int rows_of_b_loaded) {
  const double multiply = 4.0 * width + 24;
  const double load = (128 + rows_of_b_loaded) * 128 / kL2BytesPerClock;
  return multiply > load ? multiply : load;
}

}  // namespace llamita::lessons
