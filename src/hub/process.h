// Another program, run without a shell.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace llamita::hub {

struct ProcessResult {
  int status = 0;      // exit status; 127 when the program is not there, 128 + n when signal n ended it
  std::string output;  // the last 64 KiB of standard output and error together
};

// Runs `arguments[0]`, found through PATH, with no standard input; `poll` is called every 100 ms. Throws
// Error when no process can be started.
ProcessResult run_process(const std::vector<std::string>& arguments, const std::function<void()>& poll);

}  // namespace llamita::hub
