#include "image/processor_config.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string_view>
#include <utility>

#include "base/cat.h"
#include "llamita/error.h"

namespace llamita {

namespace {

constexpr int64_t kMostEdge = 1 << 14;
constexpr int64_t kMostTokens = 1 << 14;
constexpr float kMostValue = 1e4F;  // of a prepared pixel; f16 ends at 65504

// The members of one JSON object, taken by name; finish() names the first that nobody took.
class Fields {
 public:
  Fields(const Json& json, std::string source) : source_(std::move(source)) {
    for (const auto& [name, value] : json.as_object(source_)) left_.emplace_back(name, &value);
  }

  // The value, or nullptr when it is absent or null; either way the field is known.
  const Json* take(std::string_view name) {
    const auto field =
        std::find_if(left_.begin(), left_.end(), [&](const auto& f) { return f.first == name; });
    if (field == left_.end()) return nullptr;
    const Json* value = field->second;
    left_.erase(field);
    return value->is_null() ? nullptr : value;
  }

  void take(std::string_view name, bool& out) {
    if (const Json* value = take(name)) out = value->as_bool(what(name));
  }
  void take(std::string_view name, double& out) {
    if (const Json* value = take(name)) out = finite(*value, name);
  }
  void take(std::string_view name, std::string& out) {
    if (const Json* value = take(name)) out = value->as_string(what(name));
  }

  double finite(const Json& value, std::string_view name) const {
    const double number = value.as_double(what(name));
    if (!std::isfinite(number)) fail(name, "is no finite number");
    return number;
  }

  int in_range(const Json& value, std::string_view name, int64_t least, int64_t most) const {
    const int64_t number = value.as_int(what(name));
    if (number < least || number > most) fail(name, cat("is ", number, ", expected ", least, " to ", most));
    return static_cast<int>(number);
  }

  void pass_over(std::initializer_list<std::string_view> names) {
    for (const std::string_view name : names) take(name);
  }

  // Fields that say nothing else as long as they are absent, null or false.
  void refuse(std::initializer_list<std::string_view> names) {
    for (const std::string_view name : names) {
      const Json* value = take(name);
      if (value == nullptr || (value->is_bool() && !value->as_bool(name))) continue;
      fail(name, cat("is ", value->dump().substr(0, 40), ", which Llamita does not do"));
    }
  }

  void finish() const {
    for (const auto& [name, value] : left_) {
      if (!value->is_null())
        fail(name, "is a field that Llamita does not know, so its effect would be missing");
    }
  }

  std::string what(std::string_view name) const { return cat(source_, ": ", name); }
  [[noreturn]] void fail(std::string_view name, const std::string& why) const {
    throw Error(cat(source_, ": ", name, " ", why));
  }

 private:
  std::string source_;
  std::vector<std::pair<std::string, const Json*>> left_;
};

// "CLIPImageProcessor", with the suffixes of its backends, or the name it had before transformers 4.27.
bool read_is_llava(Fields& fields) {
  for (const std::string_view key : {"image_processor_type", "feature_extractor_type"}) {
    std::string name;
    fields.take(key, name);
    if (name.empty()) continue;
    std::string_view stem = name;
    for (const std::string_view suffix : {"Fast", "Pil"}) {
      if (stem.ends_with(suffix)) stem.remove_suffix(suffix.size());
    }
    if (stem == "LlavaImageProcessor") return true;
    if (stem == "CLIPImageProcessor" || stem == "CLIPFeatureExtractor") return false;
    fields.fail(key, cat("is ", name, ", expected CLIPImageProcessor or LlavaImageProcessor"));
  }
  return false;
}

ResizeRule read_resize_rule(Fields& fields) {
  using Kind = ResizeRule::Kind;
  const Json* value = fields.take("size");
  if (value == nullptr) return {};
  const auto edge = [&](const Json& number) { return fields.in_range(number, "size", 1, kMostEdge); };
  if (value->is_integer()) return {Kind::shortest_edge, edge(*value), 0};
  if (value->is_array() && value->as_array("size").size() == 2) {
    return {Kind::exact, edge(value->as_array("size")[0]), edge(value->as_array("size")[1])};
  }
  const struct {
    Kind kind;
    std::string_view a, b;
  } kShapes[] = {{Kind::exact, "height", "width"},
                 {Kind::shortest_edge, "shortest_edge", ""},
                 {Kind::bounded_edges, "shortest_edge", "longest_edge"},
                 {Kind::fit, "max_height", "max_width"}};
  for (const auto& shape : kShapes) {
    const Json* a = value->find(shape.a);
    const Json* b = shape.b.empty() ? nullptr : value->find(shape.b);
    const size_t members = shape.b.empty() ? 1 : 2;
    if (a == nullptr || (b == nullptr) != shape.b.empty()) continue;
    if (value->as_object("size").size() != members) continue;
    return {shape.kind, edge(*a), b == nullptr ? 0 : edge(*b)};
  }
  fields.fail("size", cat("is ", value->dump().substr(0, 80),
                          ", expected shortest_edge (and longest_edge), height and width, or max_height and "
                          "max_width"));
}

void read_crop_size(Fields& fields, ImageProcessorConfig& config) {
  const Json* value = fields.take("crop_size");
  if (value == nullptr) return;
  const Json* height = value;
  const Json* width = value;
  if (value->is_array() && value->as_array("crop_size").size() == 2) {
    height = &value->as_array("crop_size")[0];
    width = &value->as_array("crop_size")[1];
  } else if (value->is_object()) {
    height = value->find("height");
    width = value->find("width");
    if (height == nullptr || width == nullptr || value->as_object("crop_size").size() != 2) {
      fields.fail("crop_size", cat("is ", value->dump().substr(0, 80), ", expected height and width"));
    }
  }
  config.crop_height = fields.in_range(*height, "crop_size", 1, kMostEdge);
  config.crop_width = fields.in_range(*width, "crop_size", 1, kMostEdge);
}

// One number for all channels or a list of three.
void read_channels(Fields& fields, std::string_view name, std::array<double, 3>& out) {
  const Json* value = fields.take(name);
  if (value == nullptr) return;
  if (value->is_number()) {
    out.fill(fields.finite(*value, name));
    return;
  }
  const Json::Array& list = value->as_array(fields.what(name));
  if (list.size() != 3)
    fields.fail(name, cat("has ", list.size(), " numbers, expected 3 (red, green, blue)"));
  for (size_t c = 0; c < 3; ++c) out[c] = fields.finite(list[c], name);
}

// Values of pixels are linear in the image's levels, so the ends of their range are those of 0 and 255.
void require_sane_values(const Fields& fields, const ImageProcessorConfig& config) {
  for (size_t c = 0; c < 3; ++c) {
    for (const double level : {0.0, 255.0}) {
      auto value = static_cast<float>(config.do_rescale ? level * config.rescale_factor : level);
      if (config.do_normalize)
        value = (value - static_cast<float>(config.mean[c])) / static_cast<float>(config.std[c]);
      if (std::abs(value) <= kMostValue) continue;
      fields.fail("rescale_factor", cat("with image_mean and image_std makes ", level, " to ", value,
                                        ", expected at most ", kMostValue));
    }
  }
}

// LlavaImageProcessor's do_pad; the first LLaVA's own files say the same as image_aspect_ratio "pad".
// CLIPImageProcessor's do_pad is another thing: it fills all images of a call to the largest.
void read_padding(Fields& fields, bool is_llava, ImageProcessorConfig& config) {
  if (is_llava) {
    fields.take("do_pad", config.pad_to_square);
  } else {
    fields.refuse({"do_pad"});
  }
  std::string aspect;
  fields.take("image_aspect_ratio", aspect);
  if (aspect == "pad") {
    config.pad_to_square = true;
  } else if (!aspect.empty() && aspect != "square") {
    fields.fail("image_aspect_ratio", cat("is ", aspect, ", expected pad or square"));
  }
  if (!config.pad_to_square) return;
  for (const double mean : config.mean) {
    if (mean < 0 || mean > 1)
      fields.fail("image_mean", "is outside 0 to 1 and cannot be the ground to pad with");
  }
}

}  // namespace

ImageProcessorConfig read_image_processor_config(const Json& json, const std::string& source) {
  Fields fields(json, source);
  ImageProcessorConfig config;
  const bool is_llava = read_is_llava(fields);
  fields.take("do_resize", config.do_resize);
  config.size = read_resize_rule(fields);
  if (const Json* value = fields.take("resample")) {
    config.resample = static_cast<Resample>(fields.in_range(*value, "resample", 0, 5));
  }
  fields.take("do_center_crop", config.do_center_crop);
  read_crop_size(fields, config);
  fields.take("do_rescale", config.do_rescale);
  fields.take("rescale_factor", config.rescale_factor);
  fields.take("do_normalize", config.do_normalize);
  read_channels(fields, "image_mean", config.mean);
  read_channels(fields, "image_std", config.std);
  for (const double std : config.std) {
    if (static_cast<float>(std) == 0.0F) fields.fail("image_std", "has a zero, and it is divided by");
  }
  require_sane_values(fields, config);
  read_padding(fields, is_llava, config);
  std::string layout = "channels_first";
  fields.take("data_format", layout);
  if (layout != "channels_first") fields.fail("data_format", cat("is ", layout, ", expected channels_first"));
  fields.refuse({"use_square_size", "pad_size", "input_data_format", "return_tensors", "device"});
  fields.take("do_convert_rgb", config.do_convert_rgb);
  // Both classes set default_to_square themselves.
  fields.pass_over(
      {"default_to_square", "processor_class", "auto_map", "_valid_processor_keys", "disable_grouping"});
  fields.finish();
  return config;
}

void LlavaProcessorConfig::complete(int tower_patch_size, bool tower_drops_class_token) {
  patch_size = patch_size.value_or(tower_patch_size);
  drops_class_token = drops_class_token.value_or(tower_drops_class_token);
  num_additional_image_tokens = num_additional_image_tokens.value_or(1);
}

LlavaProcessorConfig read_llava_processor_config(const std::string& folder) {
  const std::string image_path = folder + "/preprocessor_config.json";
  const std::string path = folder + "/processor_config.json";
  LlavaProcessorConfig config;
  bool has_image_processor = false;
  if (std::filesystem::exists(path)) {
    const Json json = Json::parse_file(path);
    Fields fields(json, path);
    if (const Json* nested = fields.take("image_processor")) {
      config.image = read_image_processor_config(*nested, path + ": image_processor");
      has_image_processor = true;
    }
    if (const Json* value = fields.take("patch_size")) {
      config.patch_size = fields.in_range(*value, "patch_size", 1, kMostEdge);
    }
    std::string strategy;
    fields.take("vision_feature_select_strategy", strategy);
    if (strategy == "default" || strategy == "full") {
      config.drops_class_token = strategy == "default";
    } else if (!strategy.empty()) {
      fields.fail("vision_feature_select_strategy", cat("is ", strategy, ", expected default or full"));
    }
    if (const Json* value = fields.take("num_additional_image_tokens")) {
      config.num_additional_image_tokens =
          fields.in_range(*value, "num_additional_image_tokens", 0, kMostTokens);
    }
    fields.take("image_token", config.image_token);
    // The chat template is read with the tokenizer; the length of the image's part follows from the sizes.
    fields.pass_over({"processor_class", "auto_map", "chat_template", "image_seq_length"});
    fields.finish();
  }
  if (has_image_processor) return config;
  if (!std::filesystem::exists(image_path)) {
    throw Error(cat(image_path, ": not there, and it is needed to prepare images"));
  }
  config.image = read_image_processor_config(Json::parse_file(image_path), image_path);
  return config;
}

}  // namespace llamita
