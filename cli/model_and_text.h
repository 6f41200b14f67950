// The arguments [MODEL] [TEXT], either of which may be left out, and --model, which says that MODEL is.
#pragma once

#include <string>

#include "cli/command_line.h"

namespace llamita::cli {

// What a lone argument is: a model that is on this machine, text, or either of the two: it reads like a
// repository or a path, but nothing of that name is here.
enum class Meaning { model, text, unclear };
Meaning meaning_of(const std::string& argument);

struct ModelAndText {
  std::string model;  // "" is the default model
  std::string text;
  bool has_text = false;

  // The arguments; `name` is what the help calls TEXT. This object must outlive the parsing.
  void declare_arguments(OptionSet& options, const std::string& name, const std::string& help);
  void declare_option(OptionSet& options);

  // Call it when everything is parsed. `text_elsewhere`: TEXT came by another way (--file), so that a lone
  // argument is MODEL unless it cannot be one. Throws UsageError; `command` is "generate", say.
  void settle(const std::string& command, bool text_elsewhere);

 private:
  void settle_one(const std::string& command, bool text_elsewhere);

  std::string first_, second_, option_;
  bool has_first_ = false, has_second_ = false, has_option_ = false;
};

}  // namespace llamita::cli
