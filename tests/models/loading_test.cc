// Weights are read exactly once and shape-checked: what is missing, left over or misshapen is named.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "models/model.h"
#include "ops/sampling/integer_weight.h"
#include "support/expect_error.h"
#include "support/golden_model.h"
#include "support/temp_dir.h"
#include "weights/limits.h"

namespace llamita {
namespace {

static_assert(limits::kVocab < kMaxVocab, "a vocabulary that loads can be sampled from");

std::string read(const std::string& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return out.str();
}

// A copy of a tiny checkpoint with `from` replaced by `to` in one of its files.
void write_changed(const test::TempDir& dir, const std::string& model, const std::string& file,
                   const std::string& from, const std::string& to) {
  for (const auto& entry : std::filesystem::directory_iterator(test::golden_model(model))) {
    std::string content = read(entry.path().string());
    const std::string name = entry.path().filename().string();
    if (name == file) {
      const size_t at = content.find(from);
      ASSERT_NE(at, std::string::npos) << from;
      content.replace(at, from.size(), to);
    }
    dir.write(name, content);
  }
}

std::string path(const test::TempDir& dir) { return dir.path().string(); }

TEST(Loading, AMissingWeightIsNamed) {
  const test::TempDir dir;
  write_changed(dir, "llama", "model.safetensors", "layers.1.mlp.up_proj", "layers.1.mlp.up_porj");
  EXPECT_ERROR(load_model(path(dir)),
               "weight model.layers.1.mlp.up_proj.weight is missing, expected shape (96, 64)");
}

TEST(Loading, AWeightTheModelDoesNotKnowIsNamed) {
  const test::TempDir dir;
  write_changed(dir, "llama-tied-bias", "config.json", "\"mlp_bias\": true", "\"mlp_bias\": false");
  EXPECT_ERROR(load_model(path(dir)), "mlp.down_proj.bias");
}

TEST(Loading, AHeadThatIsTiedAndStoredTooIsCheckedLikeAnyWeight) {
  const test::TempDir dir;
  const std::string tied = "\"tie_word_embeddings\": true", untied = "\"tie_word_embeddings\": false";
  write_changed(dir, "llama", "config.json", untied, tied);
  testing::internal::CaptureStderr();
  EXPECT_TRUE(load_model(path(dir))->config().tied_head);
  EXPECT_NE(
      testing::internal::GetCapturedStderr().find("lm_head.weight differs from model.embed_tokens.weight"),
      std::string::npos);

  // The header is JSON, so a shape may be turned round without moving a byte.
  const std::string head = read(path(dir) + "/model.safetensors");
  const size_t at = head.find("[288,64]", head.find("\"lm_head.weight\""));
  ASSERT_NE(at, std::string::npos);
  dir.write("model.safetensors", std::string(head).replace(at, 8, "[64,288]"));
  EXPECT_ERROR(load_model(path(dir)), "lm_head.weight has shape (64, 288), expected (288, 64)");

  dir.write("model.safetensors", std::string(head).replace(head.rfind("F32", at), 3, "I32"));
  EXPECT_ERROR(load_model(path(dir)), "lm_head.weight is I32");
}

TEST(Loading, AMisshapenWeightIsNamedWithBothShapes) {
  const test::TempDir dir;
  write_changed(dir, "qwen2", "config.json", "\"intermediate_size\": 96", "\"intermediate_size\": 95");
  EXPECT_ERROR(load_model(path(dir)), "gate_proj.weight has shape (96, 64), expected (95, 64)");
}

TEST(Loading, SizesOutOfRangeAreErrorsAndNotAllocations) {
  for (const char* value : {"0", "-1", "1099511627776", "9223372036854775807", "\"64\"", "64.5", "[64]"}) {
    const test::TempDir dir;
    write_changed(dir, "llama", "config.json", "\"hidden_size\": 64",
                  std::string("\"hidden_size\": ") + value);
    EXPECT_ERROR(load_model(path(dir)), "hidden_size");
  }
}

TEST(Loading, AnUnknownArchitectureIsAnErrorThatListsTheKnownOnes) {
  const test::TempDir dir;
  write_changed(dir, "llama", "config.json", "LlamaForCausalLM", "MambaForCausalLM");
  EXPECT_ERROR(load_model(path(dir)), "unknown architecture MambaForCausalLM, known are LlamaForCausalLM");
}

TEST(Loading, AnUnknownRopeScalingIsAnError) {
  const test::TempDir dir;
  write_changed(dir, "llama-yarn", "config.json", "\"yarn\"", "\"yorn\"");
  EXPECT_ERROR(load_model(path(dir)), "unknown rope scaling yorn");
}

TEST(Loading, AFolderOrFileThatIsNoModelSaysSo) {
  const test::TempDir dir;
  EXPECT_ERROR(load_model(path(dir)), "no config.json");
  EXPECT_ERROR(load_model(path(dir) + "/none.gguf"), "none.gguf");
}

TEST(Loading, ATruncatedShardIsAnError) {
  const test::TempDir dir;
  write_changed(dir, "llama", "config.json", "{", "{");
  std::filesystem::resize_file(dir.path() / "model.safetensors", 100'000);
  EXPECT_ERROR(load_model(path(dir)), "model.safetensors");
}

TEST(Loading, MeasuringCountsWhatLoadingTakes) {
  const auto measured = [](const std::string& path) {
    const ModelSize size = measure_model(TensorFiles::open(path));
    EXPECT_EQ(size.weight_bytes, load_model(path)->weight_bytes());
    return size;
  };
  const int64_t norms = 5 * 64 * 4, query_key = 2 * (64 + 32) * 64 * 4;
  EXPECT_EQ(measured(test::golden_model("llama")).copied_bytes, norms) << "all else lies in the file";
  const std::string gguf = std::string(LLAMITA_SOURCE_DIR) + "/tests/golden/gguf/llama-f32.gguf";
  EXPECT_EQ(measured(gguf).copied_bytes, norms + query_key) << "rows of rotary pairs change places";
  const ModelSize gpt2 = measured(test::golden_model("gpt2"));
  EXPECT_EQ(gpt2.weight_bytes - gpt2.copied_bytes, (288 + gpt2.config.max_positions) * 64 * 4)
      << "all but the two tables is turned";

  const test::TempDir dir;
  write_changed(dir, "qwen2", "config.json", "\"intermediate_size\": 96", "\"intermediate_size\": 95");
  EXPECT_ERROR(measure_model(TensorFiles::open(path(dir))), "gate_proj.weight has shape");
}

TEST(Loading, ProgressCountsEveryByteOfTheFiles) {
  int64_t done = 0, total = -1;
  const auto model = load_model(test::golden_model("llama-llama3"), [&](int64_t now, int64_t all) {
    EXPECT_GE(now, done);
    done = now;
    total = all;
  });
  EXPECT_EQ(done, total);
  EXPECT_EQ(model->weight_bytes(),
            2 * model->parameters() + 2 * 5 * 64);  // bf16, the five norms widened to f32
}

}  // namespace
}  // namespace llamita
