// Requests from outside while long work goes on: signals, a trigger file, a limit of time.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>

namespace moeut {

/// Keeps the signals below waiting until a StopRequest is made.
void hold_stop_signals();

/// True if a signal has told the StopRequest there is to stop: for waits that could go on for ever.
bool stop_signalled();

/// From construction to destruction, at most one in a process:
///   SIGTERM, SIGINT, SIGHUP  save and stop; a second SIGINT ends the process at once
///   SIGUSR1                  save and go on
///   a trigger file           (which is removed) save and stop
///   a time limit             save and stop after so many seconds
class StopRequest {
 public:
  /// Takes over from hold_stop_signals, too.
  StopRequest();
  ~StopRequest();
  StopRequest(const StopRequest&) = delete;
  StopRequest& operator=(const StopRequest&) = delete;

  /// From now on the trigger file counts as well.
  void watch_file(const std::filesystem::path& path) { trigger_ = path; }
  /// Seconds from construction; 0: no limit. `setting` is where the user gave it, for the reason.
  void set_max_time(double seconds, const std::string& setting) {
    max_time_ = seconds;
    max_time_setting_ = setting;
  }

  /// Whether to save and stop. Once true it stays true.
  bool stop();
  /// Whether to save and go on; true once for each request.
  bool take_save();
  /// "SIGTERM", "the file runs/a/stop", "train.max_time = 60 s".
  const std::string& reason() const { return reason_; }

 private:
  std::filesystem::path trigger_;
  double max_time_ = 0;
  std::string max_time_setting_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::string reason_;
};

}  // namespace moeut
