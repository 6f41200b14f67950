#include "image/processor.h"

#include <gtest/gtest.h>

#include <string>

#include "image/decode.h"
#include "support/expect_error.h"
#include "support/golden_image.h"
#include "support/temp_dir.h"

namespace llamita {
namespace {

ImageProcessorConfig config_of(const std::string& json) {
  return read_image_processor_config(Json::parse(json, "test"), "preprocessor_config.json");
}

TEST(Processor, ValuesAreTheReferencesBitForBit) {
  const Json configs = Json::parse_file(test::golden_path("image/configs.json"));
  size_t compared = 0;
  for (size_t i = 0; i < configs.as_array("configs").size(); ++i) {
    const auto config = read_image_processor_config(configs.as_array("configs")[i], "configs.json");
    for (const auto& expected : test::image_goldens("prepared." + std::to_string(i) + ".")) {
      SCOPED_TRACE(testing::Message() << expected.name << " by config " << i);
      const PixelValues pixels =
          process_image(load_image(test::golden_path("image/files/" + expected.name)), config);
      ASSERT_EQ(pixels.height, expected.height);
      ASSERT_EQ(pixels.width, expected.width);
      EXPECT_EQ(pixels.values, expected.values);
      EXPECT_EQ(pixels.tensor().shape_text(),
                Tensor(nullptr, DType::f32, {3, expected.height, expected.width}).shape_text());
      ++compared;
    }
  }
  EXPECT_EQ(compared, 20U);
}

TEST(Processor, OddShapesBecomeTheTowersSize) {
  const ImageProcessorConfig config;  // 224 x 224
  for (const auto& [width, height] : {std::pair{1, 1}, {1, 500}, {500, 1}, {2, 3}, {224, 224}, {223, 225}}) {
    const PixelValues pixels = process_image(RgbImage(width, height), config);
    EXPECT_EQ(pixels.values.size(), size_t{3} * 224 * 224) << width << " x " << height;
  }
}

TEST(Processor, TheSizeIsKnownBeforeThePixelsAre) {
  for (const char* json : {R"({"size": 40, "crop_size": 30})", R"({"size": 40, "do_center_crop": false})",
                           R"({"size": {"height": 20, "width": 30}, "do_center_crop": false})",
                           R"({"size": 40, "do_center_crop": false, "image_aspect_ratio": "pad"})",
                           R"({"size": {"max_height": 50, "max_width": 60}, "do_center_crop": false})",
                           R"({"do_resize": false, "do_center_crop": false})"}) {
    const auto config = config_of(json);
    for (const auto& [width, height] : {std::pair{31, 47}, {64, 20}, {40, 40}}) {
      const PixelValues pixels = process_image(RgbImage(width, height), config);
      const PreparedSize size = prepared_size(width, height, config);
      EXPECT_EQ(pixels.width, size.width) << json;
      EXPECT_EQ(pixels.height, size.height) << json;
    }
  }
}

TEST(Processor, AResultWithoutBoundsIsRefused) {
  const auto uncropped = config_of(R"({"do_center_crop": false, "size": {"shortest_edge": 1000}})");
  EXPECT_ERROR(process_image(RgbImage(2000, 1), uncropped), "would become 2000000 x 1000 pixels");
  const auto fit = config_of(R"({"size": {"max_height": 10, "max_width": 10}})");
  EXPECT_ERROR(process_image(RgbImage(2000, 1), fit), "too thin");
}

TEST(ProcessorConfig, TheClassesDefaultsHoldWhereNothingIsSaid) {
  const auto config = config_of(R"({"image_processor_type": "CLIPImageProcessor", "size": null})");
  EXPECT_EQ(config.size.a, 224);
  EXPECT_EQ(config.crop_height, 224);
  EXPECT_EQ(config.resample, Resample::bicubic);
  EXPECT_FALSE(config.pad_to_square);
}

TEST(ProcessorConfig, OldSpellingsAreRead) {
  const auto old =
      config_of(R"({"feature_extractor_type": "CLIPFeatureExtractor", "size": 336, "crop_size": 300})");
  EXPECT_EQ(old.size.kind, ResizeRule::Kind::shortest_edge);
  EXPECT_EQ(old.size.a, 336);
  EXPECT_EQ(old.crop_width, 300);
  EXPECT_TRUE(config_of(R"({"image_aspect_ratio": "pad"})").pad_to_square);
}

TEST(ProcessorConfig, WhatIsNotDoneIsRefusedByName) {
  EXPECT_ERROR(config_of(R"({"image_processor_type": "SiglipImageProcessor"})"),
               "image_processor_type is Siglip");
  EXPECT_ERROR(config_of(R"({"do_flip": true})"), "do_flip is a field that Llamita does not know");
  EXPECT_ERROR(config_of(R"({"do_pad": true})"), "do_pad is true, which Llamita does not do");
  EXPECT_ERROR(config_of(R"({"use_square_size": true})"), "use_square_size");
  EXPECT_ERROR(config_of(R"({"size": {"longest_edge": 5}})"),
               "size is {\"longest_edge\":5}, expected shortest_edge");
  EXPECT_ERROR(config_of(R"({"size": {"shortest_edge": 0}})"), "size is 0, expected 1 to");
  EXPECT_ERROR(config_of(R"({"size": {"shortest_edge": 1000000}})"), "size is 1000000");
  EXPECT_ERROR(config_of(R"({"crop_size": {"height": 5}})"), "crop_size is {\"height\":5}");
  EXPECT_ERROR(config_of(R"({"resample": 6})"), "resample is 6, expected 0 to 5");
  EXPECT_ERROR(config_of(R"({"image_mean": [1, 2]})"), "image_mean has 2 numbers, expected 3");
  EXPECT_ERROR(config_of(R"({"image_std": [1, 0, 1]})"), "image_std has a zero");
  EXPECT_ERROR(config_of(R"({"rescale_factor": "x"})"), "rescale_factor");
  for (const char* json :
       {R"({"rescale_factor": 1e40})", R"({"rescale_factor": 1e4})", R"({"image_mean": 1e39})",
        R"({"image_std": 1e-30})", R"({"image_mean": 1e300, "image_std": 1e300})"})
    EXPECT_ERROR(config_of(json), "expected at most 10000");
  EXPECT_ERROR(config_of(R"({"data_format": "channels_last"})"), "data_format is channels_last");
  EXPECT_ERROR(
      config_of(R"({"image_processor_type": "LlavaImageProcessor", "do_pad": true, "image_mean": 2})"),
      "image_mean is outside 0 to 1");
  EXPECT_ERROR(config_of("[]"), "preprocessor_config.json");
}

constexpr const char* kProcessor =
    R"({"image_token": "<image>", "num_additional_image_tokens": 1, "patch_size": 14,
  "processor_class": "LlavaProcessor", "vision_feature_select_strategy": "default"})";

TEST(ProcessorConfig, BothFilesOfAFolderCount) {
  const test::TempDir folder;
  EXPECT_ERROR(read_llava_processor_config(folder.path().string()), "preprocessor_config.json: not there");
  folder.write("preprocessor_config.json", R"({"size": 336, "crop_size": 336})");
  LlavaProcessorConfig config = read_llava_processor_config(folder.path().string());
  EXPECT_FALSE(config.patch_size);
  config.complete(14, true);
  EXPECT_EQ(config.image_tokens(336, 336), 576);

  folder.write("processor_config.json", kProcessor);
  config = read_llava_processor_config(folder.path().string());
  EXPECT_EQ(config.image.crop_height, 336);
  config.complete(1, false);  // the folder said otherwise
  EXPECT_EQ(config.image_tokens(336, 336), 576);

  folder.write("processor_config.json",
               R"({"image_processor": {"crop_size": 56}, "vision_feature_select_strategy": "full"})");
  config = read_llava_processor_config(folder.path().string());
  EXPECT_EQ(config.image.crop_height, 56);
  config.complete(14, true);
  EXPECT_EQ(config.image_tokens(56, 56), 17);
  folder.write("processor_config.json", R"({"vision_feature_select_strategy": "mean"})");
  EXPECT_ERROR(read_llava_processor_config(folder.path().string()), "vision_feature_select_strategy is mean");
}

}  // namespace
}  // namespace llamita
