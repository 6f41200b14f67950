// gemm_ladder [--only 07] [--shapes ladder|grid|tiles|none] [--seconds 120]: checks every step of the GEMM
// ladder against fp64 and times it beside the best algorithm of cuBLASLt. Each step runs in a process of its
// own with a time limit, so that a kernel that hangs or faults costs its own rows and no others.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "hw/cuda/device_properties.h"
#include "lessons/bench.h"
#include "lessons/gemm_bench.h"
#include "llamita/error.h"

namespace llamita::lessons {
namespace {

struct Options {
  std::string only;
  std::string shapes = "ladder";
  int seconds = 120;
  bool child = false;
};

int usage() {
  std::fprintf(stderr, "gemm_ladder [--only 07] [--shapes ladder|grid|tiles|none] [--seconds 120]\n");
  return 2;
}

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--child") {
      options.child = true;
      continue;
    }
    if (i + 1 == argc) return false;
    const std::string value = argv[++i];
    if (name == "--only")
      options.only = value;
    else if (name == "--shapes")
      options.shapes = value;
    else if (name == "--seconds")
      options.seconds = std::atoi(value.c_str());
    else
      return false;
  }
  return options.shapes == "ladder" || options.shapes == "grid" || options.shapes == "tiles" ||
         options.shapes == "none";
}

bool run_lesson(const GemmLesson& lesson, const Options& options) {
  GemmBench bench;
  if (lesson.sm90a && !bench.device().runs_sm90a()) {
    std::printf("%-20s skipped: needs compute capability 9.0, this card has %d.%d\n", lesson.name,
                bench.device().major, bench.device().minor);
    return true;
  }
  bool good = bench.check(lesson);
  if (lesson.run == gemm_12_split_k) good = bench.check_tiles() && good;
  if (options.shapes == "tiles") {
    if (lesson.run == gemm_12_split_k)
      for (const Shape& shape : grid_shapes()) bench.time_tiles(shape);
    return good;
  }
  std::vector<Shape> shapes;
  if (options.shapes == "ladder") shapes = ladder_shapes();
  if (options.shapes == "grid") shapes = grid_shapes();
  double log_sum = 0;
  int count = 0;
  for (const Shape& shape : shapes) {
    if (2e-9 * shape.m * shape.n * shape.k > lesson.slow_gflop) continue;
    const double ratio = bench.time(lesson, shape);
    if (ratio < 0) good = false;
    if (ratio > 0) log_sum += std::log(ratio), ++count;
  }
  if (count > 1)
    std::printf("%-20s geometric mean over %d shapes: x %.3f of cuBLASLt\n", lesson.name, count,
                std::exp(log_sum / count));
  return good;
}

bool is_wanted(const GemmLesson& lesson, const Options& options) {
  return std::strncmp(lesson.name, options.only.c_str(), options.only.size()) == 0;
}

int run(const Options& options) {
  const auto lessons = gemm_lessons();
  if (std::none_of(lessons.begin(), lessons.end(), [&](auto& lesson) { return is_wanted(lesson, options); }))
    return usage();
  if (cuda::device_count() == 0) {
    std::printf("gemm_ladder: skipped, there is no NVIDIA GPU here\n");
    return 0;
  }
  std::vector<std::string> bad;
  int ran = 0;
  for (const GemmLesson& lesson : lessons) {
    if (!is_wanted(lesson, options)) continue;
    ++ran;
    const bool good =
        options.child
            ? run_lesson(lesson, options)
            : run_child("gemm_ladder", {"--child", "--only", lesson.name, "--shapes", options.shapes},
                        options.seconds);
    if (!good) bad.push_back(lesson.name);
  }
  if (options.child) return bad.empty() ? 0 : 1;
  std::printf("%d lessons, %zu bad:", ran, bad.size());
  for (const std::string& name : bad) std::printf(" %s", name.c_str());
  std::printf("\n");
  return bad.empty() ? 0 : 1;
}

}  // namespace
}  // namespace llamita::lessons

int main(int argc, char** argv) {
  llamita::lessons::Options options;
  if (!llamita::lessons::parse(argc, argv, options)) return llamita::lessons::usage();
  try {
    return llamita::lessons::run(options);
  } catch (const llamita::Error& error) {
    std::printf("%s: %s\n", options.only.empty() ? "gemm_ladder" : options.only.c_str(), error.what());
    return 1;
  }
}
