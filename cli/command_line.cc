#include "cli/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <string_view>
#include <vector>

#include "base/cat.h"
#include "cli/output.h"
#include "llamita/error.h"

namespace llamita::cli {

namespace {

constexpr int kExitError = 1, kExitUsage = 2;
constexpr size_t kHelpColumn = 30, kHelpWidth = 100;

// Filled up with spaces to `width` columns; every character here takes one.
std::string padded(std::string text, size_t width) {
  const auto columns =
      static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
  if (columns < width) text.append(width - columns, ' ');
  return text;
}

// `text` broken at spaces into lines that start at kHelpColumn.
std::string wrapped(const std::string& text) {
  std::string out;
  size_t column = kHelpColumn;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(' ', begin), text.size());
    if (column > kHelpColumn && column + end - begin > kHelpWidth) {
      out.back() = '\n';  // in place of the space before it
      out += std::string(kHelpColumn, ' ');
      column = kHelpColumn;
    }
    out += text.substr(begin, end - begin) + " ";
    column += end - begin + 1;
    begin = end + 1;
  }
  while (!out.empty() && out.back() == ' ') out.pop_back();
  return out + "\n";
}

std::string option_line(const OptionSet::Option& option) {
  std::string left = option.names;
  if (const size_t comma = left.find(','); comma != std::string::npos) left.insert(comma + 1, " ");
  if (option.kind == OptionSet::Kind::optional_value) {
    left += "[=" + option.placeholder + "]";
  } else if (!option.placeholder.empty()) {
    left += " " + option.placeholder;
  }
  left.insert(0, "  ");
  left =
      left.size() + 1 < kHelpColumn ? padded(left, kHelpColumn) : left + "\n" + std::string(kHelpColumn, ' ');
  return left + wrapped(option.help);
}

void print_overview(const Subcommands& subcommands) {
  std::string text =
      "llamita runs language models on this machine.\n\nUsage: llamita COMMAND [arguments]\n\nCommands:\n";
  for (const auto& command : subcommands) {
    text += padded("  " + command->name(), 13) + command->summary() + "\n";
  }
  text +=
      "\nMODEL is a folder with safetensors files, a .gguf file, a Hugging Face repository like\n"
      "Qwen/Qwen2.5-3B-Instruct (downloaded on first use) or a known name like smollm2-135m-instruct.\n"
      "\nExamples:\n"
      "  llamita chat                               talk with the small default model\n"
      "  llamita generate \"Name three llamas.\"      one answer, to standard output\n"
      "  llamita COMMAND --help                     all options of a command\n"
      "\nOptions:\n"
      "  -h, --help     this text\n"
      "  -V, --version  the version\n"
      "\nEnvironment: NO_COLOR=1 turns colours off; LLAMITA_LOG=debug says more on standard error.\n";
  print(text);
}

void print_help(const Subcommand& command, const OptionSet& options) {
  std::string text = command.summary() + "\n\nUsage: " + command.usage() + "\n";
  std::string group;
  for (const auto& option : options.options()) {
    const bool positional = option.kind <= OptionSet::Kind::required_positional;
    const std::string title = positional ? "Arguments" : option.group;
    if (title != group) text += "\n" + title + ":\n";
    group = title;
    text += option_line(option);
  }
  text += "\nHelp:\n" + padded("  -h, --help", kHelpColumn) + "this text\n\n" + command.examples();
  print(text);
}

void declare_to_cli11(CLI::App& app, const OptionSet::Option& option) {
  if (option.kind == OptionSet::Kind::flag) {
    app.add_flag(option.names, *option.target, option.help);
    return;
  }
  if (option.kind == OptionSet::Kind::optional_value) {
    static const std::string kBare = "\n";  // what CLI11 gives for no value: nothing that a person writes
    app.add_flag(option.names + "{" + kBare + "}")->each([take = option.take](const std::string& value) {
      take(value == kBare ? "" : value);
    });
    return;
  }
  const auto take_all = [take = option.take](const CLI::results_t& values) {
    for (const auto& value : values) take(value);
    return true;
  };
  CLI::Option* declared = app.add_option(option.names, take_all, option.help);
  declared->type_size(1)->expected(1)->allow_extra_args(false);
  declared->multi_option_policy(option.kind == OptionSet::Kind::repeated ? CLI::MultiOptionPolicy::TakeAll
                                                                         : CLI::MultiOptionPolicy::TakeLast);
  if (option.kind == OptionSet::Kind::required_positional) declared->required();
}

void complain(std::string message) {
  std::replace(message.begin(), message.end(), '\n', ' ');
  std::fprintf(stderr, "llamita: error: %s\n", message.c_str());
}

int run_guarded(Subcommand& command) {
  try {
    const int code = command.run();
    flush_output();
    return code;
  } catch (const OutputClosed&) {
    return 0;  // whoever read our output has enough of it: `llamita … | head`
  } catch (const UsageError& error) {
    complain(cat(error.what(), " (see `llamita ", command.name(), " --help`)"));
    return kExitUsage;
  } catch (const Error& error) {
    complain(error.what());
  } catch (const std::bad_alloc&) {
    complain("out of memory; try a smaller model, a smaller --context or --kv-dtype f16");
  } catch (const std::exception& error) {
    complain(error.what());
  }
  return kExitError;
}

// One `llamita SUBCOMMAND` as CLI11 knows it.
struct Declared {
  Subcommand* command;
  OptionSet options;
  CLI::App* app;
};

// Parses; returns the exit code when there is nothing to run, or -1.
int parse(CLI::App& app, int argc, const char* const* argv, const std::vector<Declared>& declared,
          const Subcommands& subcommands) {
  const auto chosen = [&]() -> const Declared* {
    for (const auto& entry : declared) {
      if (entry.app->count() > 0) return &entry;
    }
    return nullptr;
  };
  std::string hint = "`llamita --help` shows what there is";
  try {
    app.parse(argc, argv);
    return -1;
  } catch (const CLI::CallForHelp&) {
    if (const Declared* entry = chosen()) {
      print_help(*entry->command, entry->options);
    } else {
      print_overview(subcommands);
    }
    return 0;
  } catch (const CLI::ParseError& error) {
    if (const Declared* entry = chosen()) hint = "see `llamita " + entry->command->name() + " --help`";
    complain(std::string(error.what()) + " (" + hint + ")");
  } catch (const Error& error) {
    complain(error.what());
  }
  return kExitUsage;
}

int run_parsed(int argc, const char* const* argv, const Subcommands& subcommands) {
  CLI::App app;
  bool version = false;
  app.set_help_flag("-h,--help");
  app.add_flag("-V,--version", version);
  std::vector<Declared> declared;
  for (const auto& command : subcommands) {
    Declared& entry = declared.emplace_back(Declared{command.get(), {}, app.add_subcommand(command->name())});
    command->declare(entry.options);
    for (const auto& option : entry.options.options()) declare_to_cli11(*entry.app, option);
  }
  if (const int code = parse(app, argc, argv, declared, subcommands); code >= 0) return code;
  if (version) {
    print("llamita " LLAMITA_VERSION "\n");
    return 0;
  }
  for (const auto& entry : declared) {
    if (entry.app->count() > 0) return run_guarded(*entry.command);
  }
  print_overview(subcommands);
  return 0;
}

}  // namespace

void OptionSet::positional(std::string name, bool required, std::string help, Take take) {
  const Kind kind = required ? Kind::required_positional : Kind::positional;
  options_.push_back({kind, group_, std::move(name), "", std::move(help), std::move(take)});
}

void OptionSet::value(std::string names, std::string placeholder, std::string help, Take take) {
  options_.push_back(
      {Kind::value, group_, std::move(names), std::move(placeholder), std::move(help), std::move(take)});
}

void OptionSet::repeated(std::string names, std::string placeholder, std::string help, Take take) {
  options_.push_back(
      {Kind::repeated, group_, std::move(names), std::move(placeholder), std::move(help), std::move(take)});
}

void OptionSet::flag(std::string names, std::string help, bool& target) {
  options_.push_back({Kind::flag, group_, std::move(names), "", std::move(help), {}, &target});
}

void OptionSet::optional_value(std::string name, std::string placeholder, std::string help, Take take) {
  options_.push_back({Kind::optional_value, group_, std::move(name), std::move(placeholder), std::move(help),
                      std::move(take)});
}

int run_command_line(int argc, const char* const* argv, const Subcommands& subcommands) {
  // `llamita help [COMMAND]` is `llamita [COMMAND] --help`, as git has it.
  if (argc > 1 && std::string_view(argv[1]) == "help") {
    std::vector<const char*> asked{argv[0]};
    if (argc > 2) asked.push_back(argv[2]);
    asked.push_back("--help");
    return run_command_line(static_cast<int>(asked.size()), asked.data(), subcommands);
  }
  if (argc > 1 && argv[1][0] != '-' && argv[1][0] != '\0') {
    const std::string name = argv[1];
    const bool known = std::any_of(subcommands.begin(), subcommands.end(),
                                   [&](const auto& command) { return command->name() == name; });
    if (!known) {
      complain(cat("there is no command '", name, "'; `llamita --help` lists them"));
      return kExitUsage;
    }
  }
  try {
    const int code = run_parsed(argc, argv, subcommands);
    flush_output();
    return code;
  } catch (const OutputClosed&) {
    return 0;
  } catch (const Error& error) {
    complain(error.what());
    return kExitError;
  }
}

}  // namespace llamita::cli
