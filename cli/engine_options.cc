#include "cli/engine_options.h"

#include <cstdlib>
#include <filesystem>

#include "base/cat.h"
#include "base/pinning.h"
#include "base/timer.h"
#include "cli/numbers.h"
#include "cli/progress.h"
#include "cli/resolve_model.h"
#include "hub/known_models.h"

namespace llamita::cli {

namespace {

constexpr int64_t kMostThreads = 4096, kMostContext = int64_t{1} << 24;

}  // namespace

void declare_engine(OptionSet& options, EngineConfig& config) {
  options.group("How the model runs");
  options.value("-t,--threads", "N", "CPU threads (default: as many as this process may use)",
                [&config](const std::string& text) {
                  config.threads = static_cast<int>(parse_int(text, "--threads", 1, kMostThreads));
                });
  options.value(
      "-c,--context", "N",
      "longest conversation in tokens, 8k = 8192 (default: the model's, at most 32k and what fits in memory)",
      [&config](const std::string& text) {
        config.context = static_cast<int>(parse_int(text, "--context", 0, kMostContext));
      });
  declare_kv_and_device(options, config);
}

void declare_pinning(OptionSet& options, EngineConfig& config) {
  options.value(
      "--pin", "WHEN",
      "CPU threads keep to a core each: on, off or auto: with as many threads as cores, and while no "
      "other process takes them (default auto)",
      [&config](const std::string& text) {
        parse_pinning(text, "--pin");
        config.pin = text;
      });
}

void declare_kv_and_device(OptionSet& options, EngineConfig& config) {
  // No option, because nobody wants it but to see what a failing device does (docs/serving.md).
  if (const char* fault = std::getenv("LLAMITA_FAULT")) config.fault = fault;
  options.value(
      "--kv-dtype,--kv-cache-dtype", "TYPE",
      "keys and values in memory as f32, f16, bf16, or on a CPU int8: half the memory of f16, faster "
      "far into a context (default f16, on a GPU as --gpu-dtype)",
      [&config](const std::string& text) {
        if (text != "f32" && text != "f16" && text != "bf16" && text != "int8" && text != "auto") {
          throw Error(cat("--kv-dtype: expected f32, f16, bf16, int8 or auto, got '", text, "'"));
        }
        config.kv_dtype = text;
      });
  options.value("--device", "NAME",
                "cpu, cuda (the first GPU), cuda:N or auto: a GPU where there is one (default auto)",
                [&config](const std::string& text) { config.device = text; });
  options.value("--gpu-dtype", "TYPE",
                "activations on a GPU, and weights stored as f32, as bf16 or f16 (default bf16)",
                [&config](const std::string& text) { config.gpu_dtype = text; });
}

void declare_packed_cache(OptionSet& options, EngineConfig& config) {
  options.optional_value(
      "--packed-cache", "DIR",
      "keep the weights as this CPU's kernels want them in DIR (default ~/.cache/llamita/packed), about the "
      "model's size again, so that the next start need not pack them",
      [&config](const std::string& text) {
        config.packed_cache = text.empty() ? (hub::llamita_cache() / "packed").string() : text;
      });
}

LoadedModel load(const std::string& model, const EngineConfig& config) {
  const std::string path = resolve_model(model);
  const Stopwatch watch;
  Progress progress(cat("loading ", std::filesystem::path(path).filename().string()));
  LLM llm = LLM::load(path, config, [&](int64_t done, int64_t total) { progress.update(done, total); });
  return {path, std::move(llm), watch.seconds()};
}

}  // namespace llamita::cli
