// llamita: language models in a terminal. Start reading at chat.cc or generate.cc.
#include <csignal>

#include "cli/command_line.h"
#include "cli/commands.h"

int main(int argc, char** argv) {
  // Writing to a closed pipe becomes an error that print() turns into a quiet end.
  std::signal(SIGPIPE, SIG_IGN);
  llamita::cli::Subcommands subcommands;
  subcommands.push_back(llamita::cli::make_chat());
  subcommands.push_back(llamita::cli::make_generate());
  subcommands.push_back(llamita::cli::make_serve());
  subcommands.push_back(llamita::cli::make_pull());
  subcommands.push_back(llamita::cli::make_ls());
  subcommands.push_back(llamita::cli::make_inspect());
  subcommands.push_back(llamita::cli::make_tokenize());
  subcommands.push_back(llamita::cli::make_bench());
  return llamita::cli::run_command_line(argc, argv, subcommands);
}
