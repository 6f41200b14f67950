// llamita inspect: what a model is, from its files, and what memory it will take.
#include <algorithm>
#include <string>

#include "analysis/available_memory.h"
#include "analysis/memory_plan.h"
#include "base/cat.h"
#include "cli/commands.h"
#include "cli/engine_options.h"
#include "cli/model_card.h"
#include "cli/numbers.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/resolve_model.h"
#include "engine/compute_device.h"
#include "formats/json.h"
#include "text/tokenizer.h"

namespace llamita::cli {

namespace {

Json json_of(int64_t value) { return Json(value); }

std::string line(const std::string& label, const std::string& value) {
  std::string padded = label;
  padded.resize(std::max<size_t>(padded.size() + 1, 18), ' ');
  return padded + value + "\n";
}

std::string bytes_text(int64_t bytes) { return human_bytes(static_cast<double>(bytes)); }
std::string count_text(int64_t count) { return human_count(static_cast<double>(count)); }

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string out;
  for (const int64_t dim : shape) out += cat(out.empty() ? "" : " x ", dim);
  return out.empty() ? "scalar" : out;
}

const char* rope_scaling_name(RopeScaling scaling) {
  switch (scaling) {
    case RopeScaling::none: return "none";
    case RopeScaling::linear: return "linear";
    case RopeScaling::dynamic: return "dynamic";
    case RopeScaling::llama3: return "llama3";
    case RopeScaling::yarn: return "yarn";
  }
  return "?";
}

std::string shape_section(const ModelConfig& config) {
  std::string text = line("layers", cat(config.layers));
  text +=
      line("hidden", cat(config.hidden, ", feed-forward ", config.ffn, config.gated_mlp ? " (gated)" : ""));
  text += line("attention",
               cat(config.heads, " heads of ", config.head_dim, ", ", config.kv_heads, " key-value heads",
                   config.qkv_bias ? ", bias" : "", config.qk_norm ? ", q/k norm" : ""));
  if (config.sliding_window > 0) text += line("sliding window", cat(config.sliding_window, " tokens"));
  text += line("vocabulary", cat(config.vocab, config.tied_head ? ", head tied to the embedding" : ""));
  const int longest = longest_context(config);
  text += line("positions",
               cat(config.max_positions,
                   longest > config.max_positions ? cat(", ", longest, " with --context") : std::string()));
  if (config.rope.enabled) {
    text +=
        line("rope", cat("theta ", config.rope.theta, ", ", config.rope.rotary_dim, " of ", config.head_dim,
                         " dimensions, scaling ", rope_scaling_name(config.rope.scaling)));
  }
  return text;
}

std::string vision_section(const VisionConfig& vision) {
  return line("pictures", cat(vision.image_size, " x ", vision.image_size, " pixels in patches of ",
                              vision.patch, ": ", vision.image_rows(), " tokens each")) +
         line("vision tower", cat(vision.layers, " layers of ", vision.hidden, ", ", vision.heads,
                                  " heads, feed-forward ", vision.ffn));
}

Json vision_json(const VisionConfig& vision) {
  return Json(Json::Object{{"image_size", json_of(vision.image_size)},
                           {"patch_size", json_of(vision.patch)},
                           {"image_tokens", json_of(vision.image_rows())},
                           {"layers", json_of(vision.layers)},
                           {"hidden", json_of(vision.hidden)},
                           {"heads", json_of(vision.heads)},
                           {"ffn", json_of(vision.ffn)}});
}

class Inspect : public Subcommand {
 public:
  std::string name() const override { return "inspect"; }
  std::string summary() const override { return "what a model is, and what memory it takes"; }
  std::string usage() const override { return "llamita inspect [MODEL] [options]"; }
  std::string examples() const override {
    return "Reads only the headers of the files. With --context it also loads the model and measures a step "
           "without\n"
           "computing one, so that the memory it prints is exact.\n"
           "\nExamples:\n"
           "  llamita inspect model.gguf\n"
           "  llamita inspect Qwen/Qwen2.5-3B-Instruct --context 32k --kv-dtype f16\n"
           "  llamita inspect model.gguf --tensors\n";
  }

  void declare(OptionSet& options) override {
    options.positional("MODEL", false,
                       cat("folder, .gguf file, repository or known name (default ", kDefaultModel, ")"),
                       [this](const std::string& text) { model_ = text; });
    options.group("What to print");
    options.flag("--tensors", "list every tensor", tensors_);
    options.flag("--json", "print one JSON object", json_);
    declare_engine(options, config_);
  }

  int run() override {
    const ModelCard card = read_model_card(resolve_model(model_));
    const auto tokenizer = Tokenizer::load(card.path);
    MemoryPlan plan = plan_memory(card.config, config_, card.file_bytes);
    const bool exact = config_.context > 0;
    if (exact) measure(card, *tokenizer, plan);
    print(json_ ? to_json(card, *tokenizer, plan, exact).dump() + "\n"
                : to_text(card, *tokenizer, plan, exact));
    return 0;
  }

 private:
  // Loads the model, for its weights as they lie in memory and the arena of its largest step.
  void measure(const ModelCard& card, const Tokenizer& tokenizer, MemoryPlan& plan) const {
    Progress progress("loading");
    const auto model = load_model(
        card.path, [&](int64_t done, int64_t total) { progress.update(done, total); }, cpu_placement());
    const ThreadPool pool(config_.threads);
    const int32_t vocab = std::min<int32_t>(tokenizer.vocab_size(), card.config.vocab);
    plan = plan_memory(*model, config_, vocab, caps_of(cpu_placement(), pool), std::nullopt);
  }

  std::string to_text(const ModelCard& card, const Tokenizer& tokenizer, const MemoryPlan& plan,
                      bool exact) const {
    const Paint paint = stdout_paint();
    std::string text = paint.bold(card.config.name) + "\n";
    text += line("files", cat(card.path, " (", card.format, ")"));
    text += line("family", card.config.family);
    text += line("parameters", cat(count_text(card.parameters), " in ", card.tensors.size(), " tensors, ",
                                   bytes_text(card.file_bytes)));
    text += shape_section(card.config);
    if (card.config.vision) text += vision_section(*card.config.vision);
    text += line("tokenizer", cat(tokenizer.description(), ", ", tokenizer.vocab_size(), " tokens"));
    text += line("chat template",
                 tokenizer.chat_template() ? cat(tokenizer.chat_template()->size(), " bytes") : "none");
    text += "\n" + paint.bold("Formats") + "\n";
    for (const auto& [dtype, totals] : card.totals) {
      text +=
          line(std::string(llamita::name(dtype)), cat(totals.tensors, " tensors, ", count_text(totals.elems),
                                                      " elements, ", bytes_text(totals.bytes)));
    }
    text += "\n" + memory_section(plan, exact);
    if (!tensors_) return text;
    text += "\n" + paint.bold("Tensors") + "\n";
    for (const TensorSummary& tensor : card.tensors) {
      text += cat(tensor.name, "  ", llamita::name(tensor.dtype), "  ", shape_text(tensor.shape), "\n");
    }
    return text;
  }

  std::string memory_section(const MemoryPlan& plan, bool exact) const {
    std::string text =
        stdout_paint().bold(cat("Memory for a context of ", plan.shape.context, " tokens")) + "\n";
    text += line("weights", bytes_text(plan.weight_bytes) + (exact ? "" : " (as in the file)"));
    text += line("keys, values", cat(bytes_text(plan.kv_bytes), " (", plan.kv_bytes_per_token,
                                     " bytes a token, ", llamita::name(plan.shape.kv_format.dtype), ")"));
    if (exact)
      text +=
          line("activations", cat(bytes_text(plan.arena_bytes), " (steps of ", plan.shape.batch_tokens, ")"));
    if (plan.image_bytes > 0)
      text += line("images", cat(bytes_text(plan.image_bytes), " (rows of ", plan.shape.image_slots, ")"));
    text +=
        line("together", bytes_text(plan.weight_bytes + plan.kv_bytes + plan.image_bytes + plan.arena_bytes) +
                             (exact ? "" : " and activations; --context N measures them"));
    if (const auto available = available_memory()) text += line("available", bytes_text(*available));
    return text;
  }

  Json to_json(const ModelCard& card, const Tokenizer& tokenizer, const MemoryPlan& plan, bool exact) const {
    const ModelConfig& config = card.config;
    Json::Array formats, tensors;
    for (const auto& [dtype, totals] : card.totals) {
      formats.push_back(Json(Json::Object{{"format", Json(std::string(llamita::name(dtype)))},
                                          {"tensors", json_of(totals.tensors)},
                                          {"elements", json_of(totals.elems)},
                                          {"bytes", json_of(totals.bytes)}}));
    }
    for (const TensorSummary& tensor : card.tensors) {
      Json::Array shape;
      for (const int64_t dim : tensor.shape) shape.push_back(json_of(dim));
      tensors.push_back(Json(Json::Object{{"name", Json(tensor.name)},
                                          {"format", Json(std::string(llamita::name(tensor.dtype)))},
                                          {"shape", Json(std::move(shape))},
                                          {"bytes", json_of(tensor.bytes)}}));
    }
    Json::Object memory{{"context", json_of(plan.shape.context)},
                        {"exact", Json(exact)},
                        {"weight_bytes", json_of(plan.weight_bytes)},
                        {"kv_bytes", json_of(plan.kv_bytes)},
                        {"kv_bytes_per_token", json_of(plan.kv_bytes_per_token)}};
    if (plan.image_bytes > 0) memory.emplace_back("image_bytes", json_of(plan.image_bytes));
    if (exact) memory.emplace_back("activation_bytes", json_of(plan.arena_bytes));
    Json::Object object{{"name", Json(config.name)},
                        {"path", Json(card.path)},
                        {"files", Json(card.format)},
                        {"family", Json(config.family)},
                        {"parameters", json_of(card.parameters)},
                        {"layers", json_of(config.layers)},
                        {"hidden", json_of(config.hidden)},
                        {"ffn", json_of(config.ffn)},
                        {"heads", json_of(config.heads)},
                        {"kv_heads", json_of(config.kv_heads)},
                        {"head_dim", json_of(config.head_dim)},
                        {"vocab", json_of(config.vocab)},
                        {"max_positions", json_of(config.max_positions)},
                        {"tokenizer", Json(tokenizer.description())},
                        {"chat_template", Json(tokenizer.chat_template().has_value())},
                        {"formats", Json(std::move(formats))},
                        {"memory", Json(std::move(memory))}};
    if (config.vision) object.emplace_back("vision", vision_json(*config.vision));
    if (tensors_) object.emplace_back("tensors", Json(std::move(tensors)));
    return Json(std::move(object));
  }

  std::string model_;
  bool tensors_ = false, json_ = false;
  EngineConfig config_;
};

}  // namespace

std::unique_ptr<Subcommand> make_inspect() { return std::make_unique<Inspect>(); }

}  // namespace llamita::cli
