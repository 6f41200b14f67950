// The options of every subcommand that loads a model, and loading it with a progress bar.
#pragma once

#include <string>

#include "cli/command_line.h"
#include "llamita/llm.h"

namespace llamita::cli {

// --threads, --context and those below, writing to `config`, which must outlive the parsing.
void declare_engine(OptionSet& options, EngineConfig& config);
// --kv-dtype, --device, --packed-cache and --gpu-dtype alone.
void declare_kv_and_device(OptionSet& options, EngineConfig& config);
// --packed-cache, of subcommands that load weights.
void declare_packed_cache(OptionSet& options, EngineConfig& config);
// --pin, for those that run the model.
void declare_pinning(OptionSet& options, EngineConfig& config);

struct LoadedModel {
  std::string path;
  LLM llm;
  double load_seconds = 0;
};

// Finds (and downloads, on first use) what `model` names and loads it. Throws Error.
LoadedModel load(const std::string& model, const EngineConfig& config);

}  // namespace llamita::cli
