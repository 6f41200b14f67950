// Made-up weights: a written folder is the very model that was made up, and every shape can be counted.
#include "cli/made_up_folder.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "cli/shapes.h"
#include "engine/direct_runner.h"
#include "support/expect_error.h"
#include "support/golden.h"
#include "support/golden_model.h"
#include "support/temp_dir.h"
#include "text/tokenizer.h"

namespace llamita {
namespace {

TEST(MadeUpFolder, LoadsAsTheModelThatWasMadeUp) {
  const Json config = Json::parse_file(test::golden_model("qwen2") + "/config.json");
  const TensorFiles files = TensorFiles::made_up(config, "made-up");
  const test::TempDir dir;
  ThreadPool pool(2);
  cli::write_made_up_folder(files, (dir.path() / "model").string(), "", pool);
  EngineConfig engine;
  engine.threads = 1;
  engine.context = 32;
  const std::vector<int32_t> ids = {1, 5, 9, 200, 3, 3, 17};
  const auto made_up = load_model(files), loaded = load_model((dir.path() / "model").string());
  EXPECT_EQ(loaded->parameters(), made_up->parameters());
  const std::vector<float> logits = DirectRunner(*made_up, engine).logits_of(ids);
  EXPECT_EQ(DirectRunner(*loaded, engine).logits_of(ids), logits);
  EXPECT_NE(logits[0], logits[1]);
  const auto tokenizer = Tokenizer::from_folder((dir.path() / "model").string());
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("Né 42\n", false, false), false), "Né 42\n");
}

TEST(MadeUpFolder, TakesTheTokenizerOfAGgufFileOrATokenizerJson) {
  const TensorFiles files =
      TensorFiles::made_up(Json::parse_file(test::golden_model("llama") + "/config.json"), "made-up");
  const test::TempDir dir;
  ThreadPool pool(1);
  for (const std::string& from :
       {test::golden_path("gguf/gpt2-f32.gguf"), test::golden_path("tokenizer/smollm/tokenizer.json")}) {
    const std::string folder = (dir.path() / (from.ends_with(".gguf") ? "of_gguf" : "of_json")).string();
    cli::write_made_up_folder(files, folder, from, pool);
    const auto written = Tokenizer::from_folder(folder);
    const auto reference = from.ends_with(".gguf")
                               ? Tokenizer::load(from)
                               : Tokenizer::from_folder(test::golden_path("tokenizer/smollm"));
    EXPECT_EQ(written->encode("Llamas eat 42 leaves.\n", false, false),
              reference->encode("Llamas eat 42 leaves.\n", false, false));
  }
  const std::string taken = (dir.path() / "of_gguf").string();  // a model is not written over
  EXPECT_ERROR(cli::write_made_up_folder(files, taken, "", pool), "has a config.json already");
  const std::string unmade = (dir.path() / "unmade").string();
  EXPECT_ERROR(cli::write_made_up_folder(files, unmade, "/nowhere/t.gguf", pool), "/nowhere/t.gguf");
  EXPECT_FALSE(std::filesystem::exists(unmade));
}

// As the models' authors count them.
TEST(Shapes, HaveTheParametersOfTheirModels) {
  const auto parameters = [](const char* name) {
    int64_t sum = 0;
    for (const StoredTensor& tensor :
         made_up_tensors(TensorFiles::made_up(cli::config_of_shape(name), name))) {
      int64_t elems = 1;
      for (const int64_t dim : tensor.shape) elems *= dim;
      sum += elems;
    }
    return sum;
  };
  EXPECT_EQ(parameters("llama-3.2-1b"), 1235814400);
  EXPECT_EQ(parameters("llama-3.2-3b"), 3212749824);
  EXPECT_EQ(parameters("llama-3.1-8b"), 8030261248);
  EXPECT_EQ(parameters("llama-2-7b"), 6738415616);
  EXPECT_EQ(parameters("qwen2.5-3b"), 3085938688);
  EXPECT_EQ(parameters("qwen2.5-7b"), 7615616512);
  EXPECT_ERROR(cli::config_of_shape("llama-9"), "there are llama-3.2-1b");
}

}  // namespace
}  // namespace llamita
