// attention_ladder [--only 05] [--shapes ladder|none] [--seconds 120]: checks every step of the attention
// ladder against fp64 and times it; attention_peer.py times PyTorch on the same shapes. Each step runs in a
// process of its own with a time limit, so that a kernel that hangs or faults costs its own rows alone.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "hw/cuda/device_properties.h"
#include "lessons/attention_bench.h"
#include "lessons/bench.h"
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
  std::fprintf(stderr, "attention_ladder [--only 05] [--shapes ladder|none] [--seconds 120]\n");
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
  return options.shapes == "ladder" || options.shapes == "none";
}

bool run_lesson(const AttentionLesson& lesson, const Options& options) {
  AttentionBench bench;
  if (lesson.sm90a && !bench.device().runs_sm90a()) {
    std::printf("%-18s skipped: needs compute capability 9.0, this card has %d.%d\n", lesson.name,
                bench.device().major, bench.device().minor);
    return true;
  }
  bool good = bench.check(lesson);
  if (options.shapes == "none") return good;
  for (const AttentionShape& shape : attention_shapes())
    if (1e-9 * attention_flop(shape) <= lesson.slow_gflop) good = bench.time(lesson, shape) && good;
  return good;
}

bool is_wanted(const AttentionLesson& lesson, const Options& options) {
  return std::strncmp(lesson.name, options.only.c_str(), options.only.size()) == 0;
}

int run(const Options& options) {
  const auto lessons = attention_lessons();
  if (std::none_of(lessons.begin(), lessons.end(), [&](auto& lesson) { return is_wanted(lesson, options); }))
    return usage();
  if (cuda::device_count() == 0) {
    std::printf("attention_ladder: skipped, there is no NVIDIA GPU here\n");
    return 0;
  }
  std::vector<std::string> bad;
  int ran = 0;
  for (const AttentionLesson& lesson : lessons) {
    if (!is_wanted(lesson, options)) continue;
    ++ran;
    const bool good =
        options.child
            ? run_lesson(lesson, options)
            : run_child("attention_ladder", {"--child", "--only", lesson.name, "--shapes", options.shapes},
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
    std::printf("%s: %s\n", options.only.empty() ? "attention_ladder" : options.only.c_str(), error.what());
    return 1;
  }
}
