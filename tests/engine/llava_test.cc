// The tiny LLaVA of tests/golden/tiny-llava, which was trained to see: pictures and questions in, right words
// out, through decoding of files, the processor, tower, projector, prompt and scheduler.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "engine/direct_runner.h"
#include "engine/served_model.h"
#include "formats/json.h"
#include "formats/safetensors.h"
#include "image/decode.h"
#include "image/processor.h"
#include "llamita/async_engine.h"
#include "llamita/llm.h"
#include "support/expect_error.h"
#include "support/golden_llava.h"
#include "support/temp_dir.h"

namespace llamita {
namespace {

const std::string kFolder = std::string(LLAMITA_SOURCE_DIR) + "/tests/golden/tiny-llava";

std::shared_ptr<const std::string> read_bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return std::make_shared<const std::string>(text.str());
}

Picture picture(const std::string& name) { return {read_bytes(kFolder + "/pictures/" + name), 0}; }

struct Shown {
  std::string file, question, answer;
};

std::vector<Shown> shown_pictures() {
  std::vector<Shown> out;
  const Json file = Json::parse_file(kFolder + "/pictures/expected.json");
  for (const Json& one : file.as_array("expected")) {
    const auto text = [&](const char* key) { return one.find(key)->as_string(key); };
    out.push_back({text("file"), text("question"), text("answer")});
  }
  return out;
}

Request ask(const std::string& question, std::vector<Picture> pictures, int most = 8) {
  Message message{"user", question};
  message.pictures = std::move(pictures);
  Request request{Conversation{message}, {}};
  request.sampling.temperature = 0;
  request.sampling.max_tokens = most;
  return request;
}

EngineConfig on_cpu() {
  EngineConfig config;
  config.device = "cpu";
  return config;
}

TEST(TinyLlava, SaysWhatIsOnUnseenPictures) {
  LLM llm = LLM::load(kFolder, on_cpu());
  EXPECT_EQ(llm.info().image_tokens, 64);
  const std::vector<Shown> all = shown_pictures();
  ASSERT_GE(all.size(), 40u);
  std::vector<Request> requests;
  for (const Shown& one : all) requests.push_back(ask(one.question, {picture(one.file)}));
  const std::vector<Completion> done = llm.generate(requests);
  size_t right = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    const Choice& choice = done[i].choices.at(0);
    ASSERT_EQ(choice.error, "");
    EXPECT_EQ(choice.finish, FinishReason::stop) << choice.text;
    right += choice.text == all[i].answer ? 1 : 0;
    if (choice.text != all[i].answer)
      std::printf("%s: %s %s, not %s\n", all[i].file.c_str(), all[i].question.c_str(), choice.text.c_str(),
                  all[i].answer.c_str());
  }
  EXPECT_GE(static_cast<double>(right), 0.95 * static_cast<double>(all.size()));
}

// The limits that the engine is given are those that hold.
TEST(TinyLlava, PicturesHaveLimits) {
  const std::string file = shown_pictures()[0].file;
  const RgbImage image = load_image(kFolder + "/pictures/" + file);
  const int side = std::max(image.width, image.height);
  const int64_t pixels = int64_t{image.width} * image.height;
  const auto taken = [&](const EngineConfig& config) {
    try {
      ServedModel::load(kFolder, config, {})->preparer.prepare(ask("What is this?", {picture(file)}));
    } catch (const Error& error) {
      EXPECT_NE(std::string_view(error.what()).find("make it smaller"), std::string_view::npos)
          << error.what();
      return false;
    }
    return true;
  };
  for (const int more : {-1, 0, 1}) {
    EngineConfig narrow = on_cpu(), small = on_cpu();
    narrow.image_side = side + more;
    small.image_pixels = pixels + more;
    EXPECT_EQ(taken(narrow), more >= 0) << more;
    EXPECT_EQ(taken(small), more >= 0) << more;
  }
}

// How long the prompt is shows before any picture is decoded, so what is no picture does not matter.
TEST(TinyLlava, APromptThatIsTooLongCostsNoDecoding) {
  const std::vector<Picture> pictures(16, {std::make_shared<const std::string>("no image"), 0});
  LLM llm = LLM::load(kFolder, on_cpu());
  const Choice choice = llm.generate({ask("What is this?", pictures)}).at(0).choices.at(0);
  EXPECT_NE(choice.error.find("and at most 1023 are taken"), std::string::npos) << choice.error;
  EXPECT_EQ(choice.error_code, kContextLengthExceeded);
}

// The folder with one file changed, which must be refused when it is loaded.
void expect_refused(const std::string& file, const std::string& from, const std::string& to,
                    const char* message) {
  const test::TempDir dir;
  for (const char* name : {"config.json", "model.safetensors", "preprocessor_config.json",
                           "processor_config.json", "tokenizer.json", "tokenizer_config.json"})
    std::filesystem::copy(kFolder + "/" + name, dir.path() / name);
  std::string text = *read_bytes(kFolder + "/" + file);
  const size_t at = text.find(from);
  ASSERT_NE(at, std::string::npos) << from;
  dir.write(file, text.replace(at, from.size(), to));
  EXPECT_ERROR(ServedModel::load(dir.path().string(), on_cpu(), {}), message);
}

TEST(TinyLlava, WhatContradictsTheModelIsRefusedAtLoad) {
  expect_refused(
      "config.json", "\"image_token_index\": 506", "\"image_token_index\": 505",
      "image_token '<image>' is token 506 to the tokenizer, but config.json's image_token_index is 505");
  expect_refused("config.json", "\"image_token_index\": 506", "\"image_token_index\": 512",
                 "expected 0 to 511");
  expect_refused("config.json", "\"image_token_index\": 506,", "", "image_token_index is missing");
  expect_refused("processor_config.json", "\"<image>\"", "\"<picture>\"",
                 "image_token '<picture>' is 9 tokens");
  expect_refused("processor_config.json", "\"<image>\"", "\"\"", "image_token is empty");
  const std::string crop = "\"do_center_crop\": true";
  expect_refused("preprocessor_config.json", crop, "\"do_center_crop\": false",
                 "would be prepared as 64 x 128");
  expect_refused("preprocessor_config.json", "\"height\": 64", "\"height\": 32",
                 "would be prepared as 64 x 32");
  expect_refused("preprocessor_config.json", "0.00392156862745098", "1e40", "rescale_factor");
}

// The same conversation in transformers: ids after expansion, pixels, and logits of the last 16 tokens.
TEST(TinyLlava, PromptsAndPixelsAreThoseOfTransformers) {
  const auto served = ServedModel::load(kFolder, on_cpu(), {});
  const Json said = Json::parse_file(kFolder + "/golden.json");
  for (size_t number = 0; number < said.as_array("golden").size(); ++number) {
    const Json& entry = said.as_array("golden")[number];
    std::vector<Picture> pictures;
    for (const Json& file : entry.find("files")->as_array("files"))
      pictures.push_back(picture(file.as_string("file")));
    const std::string& text = entry.find("text")->as_string("text");
    const size_t begin = text.rfind("<image>\n") + 8;
    const TokenRequest request =
        served->preparer.prepare(ask(text.substr(begin, text.find(" ASSISTANT:") - begin), pictures));
    std::vector<int32_t> ids = request.prompt;
    for (int32_t& id : ids) id = id >= sched::kFirstImageToken ? *served->tokenizer->find("<image>") : id;
    for (const auto& tensor : safetensors::open_file(kFolder + "/golden.safetensors")) {
      if (tensor.name == "ids." + std::to_string(number)) {
        std::vector<int32_t> want(tensor.data.size() / 4);
        std::memcpy(want.data(), tensor.data.data(), tensor.data.size());
        EXPECT_EQ(ids, want);
      }
      if (tensor.name == "pixel_values." + std::to_string(number)) {
        std::vector<float> want(tensor.data.size() / 4);
        std::memcpy(want.data(), tensor.data.data(), tensor.data.size());
        EXPECT_EQ(request.images.at(0).image->pixels, want);
      }
    }
  }
}

TEST(TinyLlava, LogitsAreThoseOfTransformers) {
  EngineConfig config = on_cpu();
  config.kv_dtype = "f32";
  config.context = 512;
  const auto model = load_model(kFolder);
  const VisionConfig& vision = *model->config().vision;
  const test::LlavaGolden golden =
      test::read_llava_golden("tiny-llava", 0, vision.image_token, vision.image_rows());
  ASSERT_EQ(golden.images.size(), 1u);
  const std::vector<float> logits = DirectRunner(*model, config).logits_of(golden.tokens, golden.images);
  ASSERT_GT(logits.size(), golden.logits.size());
  const size_t skipped = logits.size() - golden.logits.size();
  for (size_t i = 0; i < golden.logits.size(); ++i)
    ASSERT_NEAR(logits[skipped + i], golden.logits[i], 0.02f) << "logit " << i;
}

TEST(TinyLlava, SeveralPicturesAndLaterTurns) {
  LLM llm = LLM::load(kFolder, on_cpu());
  const std::vector<Shown> all = shown_pictures();
  // A text before, between and behind: the template puts images first, whatever their places.
  Message first{"user", all[0].question};
  first.pictures = {picture(all[0].file)};
  Request request{Conversation{first, {"assistant", all[0].answer}, {"user", "How many shapes are there?"}},
                  {}};
  request.sampling.temperature = 0;
  request.sampling.max_tokens = 8;
  const Completion done = llm.generate({request}).at(0);
  EXPECT_EQ(done.choices.at(0).error, "");
  EXPECT_FALSE(done.choices.at(0).text.empty());
  const Completion two =
      llm.generate({ask(all[1].question, {picture(all[1].file), picture(all[2].file)})}).at(0);
  EXPECT_EQ(two.choices.at(0).error, "");
  EXPECT_GT(two.prompt_tokens, 128);
}

TEST(TinyLlava, ChunksAndCompanyChangeNoWord) {
  const std::vector<Shown> all = shown_pictures();
  std::vector<Request> requests;
  for (size_t i = 0; i < 6; ++i) {
    requests.push_back(ask(all[i].question, {picture(all[i].file), picture(all[i + 1].file)}));
    requests.back().sampling.logprobs = 0;
  }
  LLM whole = LLM::load(kFolder, on_cpu());
  EngineConfig config = on_cpu();
  config.batch_tokens = 7;
  config.batch_sequences = 3;
  LLM chunked = LLM::load(kFolder, config);
  const std::vector<Completion> together = chunked.generate(requests);
  for (size_t i = 0; i < requests.size(); ++i) {
    const Choice alone = whole.generate({requests[i]}).at(0).choices.at(0);
    const Choice& other = together[i].choices.at(0);
    EXPECT_EQ(other.tokens, alone.tokens);
    ASSERT_EQ(other.logprobs.size(), alone.logprobs.size());
    for (size_t t = 0; t < alone.logprobs.size(); ++t)
      EXPECT_EQ(other.logprobs[t].chosen.logprob, alone.logprobs[t].chosen.logprob);
  }
}

// The cache knows a prefix by its image: the same picture hits, another one with the same words does not.
TEST(TinyLlava, PrefixesAreSharedByImage) {
  LLM llm = LLM::load(kFolder, on_cpu());
  const std::string question = "How many red circles are there?";
  const auto run = [&](const std::string& file) {
    return llm.generate({ask(question, {picture(file)})}).at(0);
  };
  const Completion first = run("01.png"), again = run("01.png"), other = run("03.png");
  EXPECT_EQ(first.cached_tokens, 0);
  EXPECT_GT(again.cached_tokens, 60);
  EXPECT_LT(other.cached_tokens, 10);  // the words before the image
  EXPECT_EQ(first.choices[0].text, "three");
  EXPECT_EQ(again.choices[0].text, "three");
  EXPECT_EQ(other.choices[0].text, "one");
}

TEST(TinyLlava, PlainTextTakesImagesAtTheirPlaces) {
  LLM llm = LLM::load(kFolder, on_cpu());
  const std::string before = "USER: ", behind = "\nHow many red circles are there? ASSISTANT:";
  Request request{before + behind, {}};
  request.pictures = {picture("01.png")};
  request.pictures[0].at = before.size();
  request.sampling.temperature = 0;
  request.sampling.max_tokens = 4;
  EXPECT_EQ(llm.generate({request}).at(0).choices.at(0).text, "three");
}

TEST(TinyLlava, WhatIsNoImageFailsAloneAndSaysWhy) {
  LLM llm = LLM::load(kFolder, on_cpu());
  const auto broken = [](std::string bytes) {
    return Picture{std::make_shared<const std::string>(std::move(bytes)), 0};
  };
  std::string cut = *picture("01.png").file;
  cut.resize(cut.size() / 2);
  std::string huge = *picture("01.png").file;
  huge[16] = huge[20] = '\x7f';  // width and height of the header
  const std::vector<Completion> done =
      llm.generate({ask("How many red circles are there?", {broken("no image")}),
                    ask("How many red circles are there?", {broken(cut)}),
                    ask("How many red circles are there?", {broken(huge)}),
                    ask("How many red circles are there?", {broken("")}),
                    ask("How many red circles are there?", {picture("01.png")})});
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(done[i].choices.at(0).finish, FinishReason::error);
    EXPECT_NE(done[i].choices.at(0).error.find("image 1"), std::string::npos) << done[i].choices.at(0).error;
  }
  EXPECT_EQ(done[4].choices.at(0).text, "three");
}

TEST(TinyLlava, WordsOfAUserAreNoImageAndPlacesMustMatch) {
  const auto served = ServedModel::load(kFolder, on_cpu(), {});
  const TokenRequest request = served->preparer.prepare(ask("What is <image>?", {picture("01.png")}));
  EXPECT_EQ(request.images.size(), 1u);
  EXPECT_EQ(request.images[0].end - request.images[0].begin, 64);
  const Request raw{std::vector<int32_t>{1, *served->tokenizer->find("<image>"), 5}, {}};
  EXPECT_ERROR(served->preparer.prepare(raw), "places for 1 images");
  const Request pseudo{std::vector<int32_t>{1, sched::kFirstImageToken, 5}, {}};
  EXPECT_ERROR(served->preparer.prepare(pseudo), "the prompt");
  std::vector<Picture> many(65, picture("01.png"));
  EXPECT_ERROR(served->preparer.prepare(ask("?", many)), "at most 64");
}

TEST(TinyLlava, AModelWithoutEyesRefusesImages) {
  LLM llm = LLM::load(std::string(LLAMITA_SOURCE_DIR) + "/tests/golden/models/llama", on_cpu());
  EXPECT_EQ(llm.info().image_tokens, 0);
  const Completion done = llm.generate({ask("hi", {picture("01.png")})}).at(0);
  EXPECT_NE(done.choices.at(0).error.find("takes no images"), std::string::npos);
}

}  // namespace
}  // namespace llamita
