// The subcommands of `llamita`, one file each.
#pragma once

#include <memory>

#include "cli/command_line.h"

namespace llamita::cli {

std::unique_ptr<Subcommand> make_chat();
std::unique_ptr<Subcommand> make_generate();
std::unique_ptr<Subcommand> make_pull();
std::unique_ptr<Subcommand> make_ls();
std::unique_ptr<Subcommand> make_inspect();
std::unique_ptr<Subcommand> make_tokenize();
std::unique_ptr<Subcommand> make_bench();
std::unique_ptr<Subcommand> make_serve();

}  // namespace llamita::cli
