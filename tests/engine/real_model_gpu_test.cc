// A real model on a GPU beside the same file on the CPU, in f32 and without rounded activations: the text
// that people read. LLAMITA_TEST_MODEL names the file or folder (`make test-gpu TEST_MODEL=...`); without it
// these skip aloud.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "engine/compute_device.h"
#include "engine/direct_runner.h"
#include "engine/served_model.h"
#include "hw/cuda/device_properties.h"
#include "support/distributions.h"

namespace llamita {
namespace {

const char* const kText =
    "A bridge carries loads across a gap. The first ones were logs that had fallen over streams; later "
    "people "
    "laid slabs of stone on piers, and the Romans built arches whose wedges hold each other by their own "
    "weight. "
    "Iron made longer spans possible in the eighteenth century, and steel cables longer ones still. "
    "Engineers "
    "watch wind, heat and rust, because a bridge that stands still is one that is looked after. In 1940 a "
    "suspension bridge in Washington twisted itself apart in a steady wind of only forty miles an hour, and "
    "since then every long span has been tested in a wind tunnel before it was built.";

class RealModel : public testing::Test {
 protected:
  void SetUp() override {
    if (cuda::device_count() == 0) GTEST_SKIP() << "there is no NVIDIA GPU here";
    const char* path = std::getenv("LLAMITA_TEST_MODEL");
    if (path == nullptr) GTEST_SKIP() << "LLAMITA_TEST_MODEL names no model";
    path_ = path;
  }

  static EngineConfig config_of(const std::string& device) {
    EngineConfig config;
    config.device = device;
    config.context = 512;
    if (device == "cpu") config.kv_dtype = "f32";
    return config;
  }
  // The CPU's kernels without integer activations are the weights' own answer.
  static std::string exact_kernels() { return cat("linear=cpu_panel_", cpu::name(cpu::detect_isa())); }
  std::unique_ptr<Tokenizer> tokenizer() const {
    const TensorFiles files = TensorFiles::open(path_);
    return files.is_gguf() ? Tokenizer::from_gguf(files.gguf()) : Tokenizer::from_folder(path_);
  }
  std::vector<float> logits(const std::string& device, const std::vector<int32_t>& ids) const {
    const EngineConfig config = config_of(device);
    const auto model = load_model(path_, {}, choose_placement(config));
    if (device == "cpu") setenv("LLAMITA_KERNEL", exact_kernels().c_str(), 1);
    DirectRunner runner(*model, config);
    unsetenv("LLAMITA_KERNEL");
    return runner.logits_of(ids);
  }

  std::string path_;
};

TEST_F(RealModel, LogitsAreTheCpusAsFarAsBf16Allows) {
  const std::vector<int32_t> ids = tokenizer()->encode(kText, true, false);
  const std::vector<float> want = logits("cpu", ids), got = logits("cuda", ids);
  ASSERT_EQ(got.size(), want.size());
  const size_t vocab = want.size() / ids.size();
  const double kl = test::mean_kl(want, got, vocab);
  std::printf("%zu positions: mean KL %.2e\n", ids.size(), kl);
  EXPECT_LE(kl, 1e-3);
  EXPECT_EQ(test::clear_choices_missed(want, got, vocab, 0.5f), 0);
}

// Greedy replies to questions: equal to the CPU's, or parted where the CPU's two best are close.
TEST_F(RealModel, GreedyTextIsTheCpusWhereMarginsAllow) {
  const auto replies = [&](const std::string& device) {
    if (device == "cpu") setenv("LLAMITA_KERNEL", exact_kernels().c_str(), 1);
    const auto served = ServedModel::load(path_, config_of(device), {});
    unsetenv("LLAMITA_KERNEL");
    std::vector<TokenRequest> requests;
    for (const char* question : {"What is the capital of France?", "Write one sentence about the sea.",
                                 "Name three colours.", "Why is the sky blue?"}) {
      Request request{Conversation{{"user", question}}, {}};
      request.sampling.temperature = 0;
      request.sampling.max_tokens = 48;
      requests.push_back(served->preparer.prepare(request));
    }
    std::vector<Completion> done = served->engine.generate(requests);
    return std::pair(requests, done);
  };
  const auto [requests, on_gpu] = replies("cuda");
  const auto on_cpu = replies("cpu").second;
  for (size_t r = 0; r < requests.size(); ++r) {
    const Choice &gpu = on_gpu[r].choices[0], &cpu = on_cpu[r].choices[0];
    ASSERT_EQ(gpu.error, "");
    std::printf("%s\n", gpu.text.c_str());
    const auto parted =
        std::mismatch(gpu.tokens.begin(), gpu.tokens.end(), cpu.tokens.begin(), cpu.tokens.end());
    if (parted.first == gpu.tokens.end() || parted.second == cpu.tokens.end()) continue;
    std::vector<int32_t> ids = requests[r].prompt;
    ids.insert(ids.end(), cpu.tokens.begin(), parted.second);
    const std::vector<float> all = logits("cpu", ids);
    const float* row = all.data() + all.size() / ids.size() * (ids.size() - 1);
    EXPECT_LT(row[*parted.second] - row[*parted.first], 0.5f)
        << "reply " << r << " parts at token " << parted.first - gpu.tokens.begin();
  }
}

}  // namespace
}  // namespace llamita
