#include "core/stop_request.h"

#include <fmt/format.h>

#include <csignal>

namespace moeut {
namespace {

volatile std::sig_atomic_t stop_signal = 0;
volatile std::sig_atomic_t save_signal = 0;

void on_stop(int signal) {
  if (signal == SIGINT && stop_signal != 0) {  // asked again: end as an unhandled SIGINT does
    std::signal(SIGINT, SIG_DFL);
    std::raise(SIGINT);
  }
  stop_signal = signal;
}

void on_save(int) {
  save_signal = 1;
}

/// A signal that the parent made us ignore (nohup, a shell's background job) stays ignored.
void handle(int signal, void (*handler)(int)) {
  struct sigaction action = {};
  sigaction(signal, nullptr, &action);
  if (action.sa_handler == SIG_IGN) return;
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(signal, &action, nullptr);
}

const char* name_of_signal(int signal) {
  return signal == SIGINT ? "SIGINT" : signal == SIGHUP ? "SIGHUP" : "SIGTERM";
}

constexpr int kStopSignals[] = {SIGTERM, SIGINT, SIGHUP};

sigset_t all_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : kStopSignals) sigaddset(&set, signal);
  sigaddset(&set, SIGUSR1);
  return set;
}

}  // namespace

void hold_stop_signals() {
  const sigset_t set = all_signals();
  sigprocmask(SIG_BLOCK, &set, nullptr);
}

bool stop_signalled() {
  return stop_signal != 0;
}

StopRequest::StopRequest() {
  stop_signal = 0;
  save_signal = 0;
  for (const int signal : kStopSignals) handle(signal, on_stop);
  handle(SIGUSR1, on_save);
  const sigset_t set = all_signals();
  sigprocmask(SIG_UNBLOCK, &set, nullptr);
}

StopRequest::~StopRequest() {
  stop_signal = 0;
  for (const int signal : kStopSignals) handle(signal, SIG_DFL);
  handle(SIGUSR1, SIG_DFL);
}

bool StopRequest::stop() {
  if (!reason_.empty()) return true;
  std::error_code error;
  if (stop_signal != 0) {
    reason_ = name_of_signal(stop_signal);
  } else if (max_time_ > 0 && std::chrono::steady_clock::now() - start_ >= std::chrono::duration<double>(max_time_)) {
    reason_ = fmt::format("{} = {} s", max_time_setting_, max_time_);
  } else if (!trigger_.empty() && std::filesystem::remove(trigger_, error)) {
    reason_ = fmt::format("the file {}", trigger_.string());
  }
  return !reason_.empty();
}

bool StopRequest::take_save() {
  if (save_signal == 0) return false;
  save_signal = 0;
  return true;
}

}  // namespace moeut
