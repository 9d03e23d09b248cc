#include "data/limited_child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>

#include "core/check.h"

namespace moeut {
namespace {

constexpr char kOk = '+', kFailed = '-';

void limit(int resource, rlim_t value) {
  const rlimit both{value, value};
  setrlimit(static_cast<__rlimit_resource>(resource), &both);
}

/// Address space in use now, so that the limit also works under sanitizers, which reserve terabytes.
size_t address_space() {
  size_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

void write_all(int fd, const std::string& text) {
  for (size_t done = 0; done < text.size();) {
    const ssize_t n = ::write(fd, text.data() + done, text.size() - done);
    if (n < 0 && errno != EINTR) return;
    if (n > 0) done += static_cast<size_t>(n);
  }
}

/// The child: crash quietly, stay within the limits, answer through the pipe.
[[noreturn]] void child_main(int fd, const std::function<std::string()>& work, const ChildLimits& limits) {
  for (const int signal_number : {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGTERM, SIGINT})
    signal(signal_number, SIG_DFL);
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_CPU, static_cast<rlim_t>(limits.cpu_seconds));
  limit(RLIMIT_AS, address_space() + limits.extra_memory);
  const int null = ::open("/dev/null", O_WRONLY);
  if (null >= 0) dup2(null, STDERR_FILENO);  // allocators and sanitizers would write their last words there
  std::string answer;
  try {
    answer = kOk + work();
  } catch (const std::exception& error) {
    answer = std::string(1, kFailed) + error.what();
  }
  write_all(fd, answer);
  _exit(0);
}

/// Everything the child writes, until it closes the pipe; false if the time ran out first.
bool read_answer(int fd, int wall_seconds, std::string& answer) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(wall_seconds);
  char buffer[4096];
  while (true) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    pollfd wait{fd, POLLIN, 0};
    if (poll(&wait, 1, static_cast<int>(left.count())) <= 0) continue;
    const ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n == 0) return true;
    if (n > 0) answer.append(buffer, static_cast<size_t>(n));
  }
}

}  // namespace

std::string run_in_limited_child(const std::string& what, const std::function<std::string()>& work,
                                 ChildLimits limits) {
  int ends[2];
  require<IoError>(pipe2(ends, O_CLOEXEC) == 0, "cannot open a pipe: {}", std::strerror(errno));
  const pid_t child = fork();
  if (child == 0) child_main(ends[1], work, limits);
  const int fork_error = errno;
  ::close(ends[1]);
  std::string answer;
  const bool in_time = child > 0 && read_answer(ends[0], limits.wall_seconds, answer);
  ::close(ends[0]);
  require<IoError>(child > 0, "cannot start a child process: {}", std::strerror(fork_error));
  if (!in_time) kill(child, SIGKILL);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  require<IoError>(in_time, "{} could not be read within {} s; the file is damaged or hostile", what,
                   limits.wall_seconds);
  require<IoError>(!answer.empty() && WIFEXITED(status),
                   "{} could not be read: the library reading it failed ({}); the file is damaged or hostile", what,
                   WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "no answer");
  if (answer[0] == kFailed) throw IoError(answer.substr(1));
  return answer.substr(1);
}

}  // namespace moeut
