#include "hub/process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/cat.h"
#include "llamita/error.h"

extern char** environ;

namespace llamita::hub {

namespace {

constexpr size_t kKeep = size_t{64} << 10;
constexpr int kPollMs = 100;

void read_output(int pipe, std::string& output, const std::function<void()>& poll) {
  for (;;) {
    pollfd wait{pipe, POLLIN, 0};
    const int ready = ::poll(&wait, 1, kPollMs);
    if (poll) poll();
    if (ready == 0 || (ready < 0 && errno == EINTR)) continue;
    char buffer[4096];
    const ssize_t n = ::read(pipe, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    output.append(buffer, static_cast<size_t>(n));
    if (output.size() > 2 * kKeep) output.erase(0, output.size() - kKeep);
  }
}

}  // namespace

ProcessResult run_process(const std::vector<std::string>& arguments, const std::function<void()>& poll) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw Error(cat("a pipe cannot be made: ", std::strerror(errno)));
  std::vector<char*> argv;
  for (const auto& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
  pid_t child = 0;
  const int problem = ::posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  ProcessResult out;
  if (problem != 0) {
    ::close(ends[0]);
    if (problem == ENOENT) return {127, cat(arguments[0], ": not found")};
    throw Error(cat(arguments[0], ": cannot be started: ", std::strerror(problem)));
  }
  read_output(ends[0], out.output, poll);
  ::close(ends[0]);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  out.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return out;
}

}  // namespace llamita::hub
