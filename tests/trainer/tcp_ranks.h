// Ranks of a test that talk by TCP on this host: as threads, or as processes that may be killed.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <exception>
#include <functional>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "core/check.h"
#include "core/file.h"
#include "tests/scratch_folder.h"
#include "trainer/communicator.h"

namespace moeut::testing {

using RankWork = std::function<void(Communicator&)>;

/// work(communicator) in one thread a rank. What any of them throws is thrown here, that of the lowest rank first.
inline void run_tcp_threads(int size, const RankWork& work) {
  const ScratchFolder folder;
  const std::string rendezvous = "file:" + (folder.path() / "ranks").string();
  std::vector<std::exception_ptr> thrown(static_cast<size_t>(size));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        work(*make_tcp_communicator({.rank = rank, .size = size}, rendezvous, 30));
      } catch (...) {
        thrown[static_cast<size_t>(rank)] = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& each : thrown)
    if (each) std::rethrow_exception(each);
}

/// How a process has ended, and what it wrote to standard error.
struct Ended {
  int status = -1;  ///< of exit; -1: it did not exit
  int signal = 0;   ///< that killed it
  std::string output;
};

/// One process a rank, started at once. None outlives this object, or 60 seconds.
class RankProcesses {
 public:
  RankProcesses(int size, const RankWork& work, const std::string& fault = "") {
    std::cout.flush();  // or each of them has what waits to be written, too
    for (int rank = 0; rank < size; ++rank) {
      const pid_t process = ::fork();
      require<Error>(process >= 0, "cannot fork");
      if (process == 0) be_rank(rank, size, work, fault);
      processes_.push_back(process);
    }
    has_ended_.resize(processes_.size());
  }
  RankProcesses(const RankProcesses&) = delete;
  RankProcesses& operator=(const RankProcesses&) = delete;
  ~RankProcesses() {
    for (size_t rank = 0; rank < processes_.size(); ++rank) {
      if (has_ended_[rank]) continue;
      ::kill(processes_[rank], SIGKILL);
      ::waitpid(processes_[rank], nullptr, 0);
    }
  }

  pid_t process(int rank) const { return processes_[static_cast<size_t>(rank)]; }
  void send(int signal) const {
    for (const pid_t process : processes_) ::kill(process, signal);
  }

  /// Until this rank has stopped by a signal.
  void wait_for_stop(int rank) const {
    int status = 0;
    ::waitpid(process(rank), &status, WUNTRACED);
    require<Error>(WIFSTOPPED(status), "rank {} did not stop", rank);
  }

  /// Until this rank has ended.
  Ended wait(int rank) {
    int status = 0;
    ::waitpid(process(rank), &status, 0);
    has_ended_[static_cast<size_t>(rank)] = true;
    return {.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1,
            .signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0,
            .output = read_file(output_of(rank), 1 << 20)};
  }

 private:
  std::string output_of(int rank) const { return (folder_.path() / fmt::format("output-{}", rank)).string(); }

  [[noreturn]] void be_rank(int rank, int size, const RankWork& work, const std::string& fault) const {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::alarm(60);
    ::dup2(::open(output_of(rank).c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600), STDERR_FILENO);
    if (!fault.empty()) ::setenv("MOEUT_TEST_FAULT", fault.c_str(), 1);
    try {
      work(*make_tcp_communicator({.rank = rank, .size = size}, "file:" + (folder_.path() / "ranks").string(), 30));
    } catch (const std::exception& error) {
      ::dprintf(STDERR_FILENO, "%s\n", error.what());
      ::_exit(3);
    }
    ::_exit(0);
  }

  ScratchFolder folder_;
  std::vector<pid_t> processes_;
  std::vector<bool> has_ended_;
};

}  // namespace moeut::testing
