// The sampling settings people can change: one table for the options of `generate` and `chat` and for the
// chat's /set.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cli/command_line.h"
#include "llamita/sampling_params.h"

namespace llamita::cli {

struct Setting {
  std::string name;   // as /set has it: "top_k"
  std::string flags;  // as the command line has it: "--top-k"
  std::string placeholder;
  std::string help;
  bool repeated = false;
  // Throws Error when the text is no good value.
  std::function<void(SamplingParams&, const std::string& text)> set;
  std::function<std::string(const SamplingParams&)> show;
};

const std::vector<Setting>& sampling_settings();

// What `llamita chat` and `llamita generate` start from.
SamplingParams default_sampling(int max_tokens);

// Declares every setting as an option that writes to `params`, which must outlive the parsing.
void declare_sampling(OptionSet& options, SamplingParams& params);

// "top_k = 40", one line each.
std::string show_settings(const SamplingParams& params);

// Sets one by name ("top-k" and "top_k" are the same); "default" brings its first value back. Throws Error.
void set_by_name(SamplingParams& params, const SamplingParams& defaults, const std::string& name,
                 const std::string& value);

}  // namespace llamita::cli
