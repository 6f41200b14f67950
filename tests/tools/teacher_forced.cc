// Logits of given token ids, for comparisons with other engines. Each line of input is one text's token ids.
//
//   teacher_forced MODEL < ids.txt                writes (tokens, V) f32 for each line
//   teacher_forced MODEL --greedy N < ids.txt     prints the N most probable next ids of each line
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "ops/linear/linear.h"
#include "support/model_steps.h"

namespace {

std::vector<int32_t> read_ids(const std::string& line) {
  std::istringstream in(line);
  std::vector<int32_t> ids;
  for (int32_t id; in >> id;) ids.push_back(id);
  return ids;
}

int run(const std::string& path, int greedy) {
  llamita::Placement placement;
  placement.layout = llamita::linear_cpu_layout();
  const auto model = llamita::load_model(path, {}, placement);
  const auto vocab = static_cast<size_t>(model->config().vocab);
  for (std::string line; std::getline(std::cin, line);) {
    llamita::test::ModelSteps steps(*model, llamita::DType::f16, 0);
    std::vector<float> logits = steps.run({{0, read_ids(line)}});
    if (greedy == 0) {
      std::fwrite(logits.data(), sizeof(float), logits.size(), stdout);
      continue;
    }
    for (int i = 0; i < greedy; ++i) {
      const auto last = logits.end() - static_cast<int64_t>(vocab);
      const auto id = static_cast<int32_t>(std::max_element(last, logits.end()) - last);
      std::printf("%s%d", i > 0 ? " " : "", id);
      logits = steps.run({{0, {id}}});
    }
    std::printf("\n");
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 && !(argc == 4 && std::string(argv[2]) == "--greedy")) {
    std::fprintf(stderr, "usage: teacher_forced MODEL [--greedy N] < ids.txt\n");
    return 2;
  }
  try {
    return run(argv[1], argc == 4 ? std::atoi(argv[3]) : 0);
  } catch (const llamita::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
