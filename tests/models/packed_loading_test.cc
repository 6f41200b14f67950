// A second start from packed weights on disk computes what the first one did, bit for bit, for every way in
// which a model's files differ from what kernels want.
#include <gtest/gtest.h>

#include <cctype>
#include <filesystem>
#include <iterator>
#include <system_error>

#include "ops/linear/linear.h"
#include "support/golden_model.h"
#include "support/model_steps.h"
#include "support/temp_dir.h"

namespace llamita {
namespace {

namespace fs = std::filesystem;

struct Source {
  const char* path;  // below tests/golden
  bool packs;        // has a matrix that cannot be used where it lies
};

std::vector<float> logits_of(const Model& model, cpu::Isa isa) {
  std::vector<int32_t> ids;
  for (int i = 0; i < 40; ++i) ids.push_back((i * 29 + 5) % model.config().vocab);
  return test::ModelSteps(model, DType::f32, 1, isa).run({{0, ids}});
}

class PackedLoading : public testing::TestWithParam<Source> {};

TEST_P(PackedLoading, ASecondStartComputesTheSameBits) {
  const std::string path = std::string(LLAMITA_SOURCE_DIR) + "/tests/golden/" + GetParam().path;
  const test::TempDir dir;
  for (const cpu::Isa isa : {cpu::Isa::generic, cpu::Isa::avx2, cpu::Isa::avx512}) {
    if (isa > cpu::best_isa()) continue;
    Placement placement;
    placement.layout = linear_layout({DeviceKind::cpu, isa});
    const std::string folder = (dir.path() / std::string(cpu::name(isa))).string();
    int64_t plain_bytes = 0;
    const auto plain = load_model(
        path, [&](int64_t done, int64_t) { plain_bytes = done; }, placement);
    const std::vector<float> want = logits_of(*plain, isa);
    for (const char* start : {"first", "second"}) {
      int64_t bytes = 0;
      const auto progress = [&](int64_t done, int64_t) {
        EXPECT_GE(done, bytes);
        bytes = done;
      };
      const auto model = load_model(path, progress, placement, folder);
      EXPECT_EQ(logits_of(*model, isa), want) << start << " on " << cpu::name(isa);
      EXPECT_EQ(model->weight_bytes(), plain->weight_bytes());
      EXPECT_EQ(model->parameters(), plain->parameters());
      EXPECT_EQ(bytes, plain_bytes);
      std::error_code none;
      const auto files = std::distance(fs::directory_iterator(folder, none), fs::directory_iterator());
      EXPECT_EQ(files, GetParam().packs ? 1 : 0) << start << " on " << cpu::name(isa);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Sources, PackedLoading,
                         testing::Values(Source{"gguf/llama-q4_1.gguf", true},
                                         Source{"gguf/llama-q8_0.gguf", true},
                                         Source{"gguf/llama-f32.gguf", true},
                                         Source{"gguf/llama-tied-bias-f16.gguf", true},
                                         Source{"gguf/llama-llama3-bf16-00001-of-00003.gguf", true},
                                         Source{"gguf/qwen3-bf16.gguf", false}, Source{"models/gpt2", true},
                                         Source{"models/llama", false}),
                         [](const auto& source) {
                           std::string name = source.param.path;
                           for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
                           return name;
                         });

}  // namespace
}  // namespace llamita
