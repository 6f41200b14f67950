// The command line: subcommands that declare their options and run. Parsing is CLI11's, included by
// command_line.cc alone because it is slow to compile; help texts are written here, so they read the same
// everywhere.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "llamita/error.h"

namespace llamita::cli {

// The command was called wrongly: exit code 2.
class UsageError : public Error {
 public:
  using Error::Error;
};

// Declares one subcommand's options. Values reach the program through `take`, which throws llamita::Error
// when it does not like one: a usage error.
class OptionSet {
 public:
  using Take = std::function<void(const std::string&)>;

  // Options declared from here on stand under this title in the help text.
  void group(std::string title) { group_ = std::move(title); }
  // An argument by position, in order of declaration.
  void positional(std::string name, bool required, std::string help, Take take);
  // `names` as in "-n,--max-tokens". Given twice, the last one counts.
  void value(std::string names, std::string placeholder, std::string help, Take take);
  // The same, and every one counts.
  void repeated(std::string names, std::string placeholder, std::string help, Take take);
  void flag(std::string names, std::string help, bool& target);
  // A flag that may be given a value, as --name=VALUE alone; `take` gets "" when there is none.
  void optional_value(std::string name, std::string placeholder, std::string help, Take take);

  enum class Kind { positional, required_positional, value, repeated, flag, optional_value };
  struct Option {
    Kind kind;
    std::string group, names, placeholder, help;
    Take take;
    bool* target = nullptr;
  };
  const std::vector<Option>& options() const { return options_; }

 private:
  std::string group_ = "Options";
  std::vector<Option> options_;
};

// One subcommand. Each has a file of its own in this folder.
class Subcommand {
 public:
  virtual ~Subcommand() = default;
  virtual std::string name() const = 0;
  virtual std::string summary() const = 0;   // one line, for the overview
  virtual std::string usage() const = 0;     // "llamita chat [MODEL] [options]"
  virtual std::string examples() const = 0;  // and whatever else a newcomer should read
  virtual void declare(OptionSet& options) = 0;
  // Returns the exit code; throws Error, UsageError among them.
  virtual int run() = 0;
};

using Subcommands = std::vector<std::unique_ptr<Subcommand>>;

// Parses, runs the subcommand that was asked for and returns the exit code: 0, 1 for errors (one sentence on
// stderr), 2 for usage errors.
int run_command_line(int argc, const char* const* argv, const Subcommands& subcommands);

}  // namespace llamita::cli
