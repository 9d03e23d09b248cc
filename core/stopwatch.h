// How long a device was busy.
#pragma once

#include <chrono>

#include "core/backend.h"
#include "core/device.h"

namespace moeut {

/// The time between two points of a device's work. On CUDA they are events in a stream: starting and stopping do not
/// wait, and neither the host's own time nor its waiting counts. On the CPU, which works at once, it is wall time.
class Stopwatch {
 public:
  /// Throws BackendError for a device that is not there; meta has no time.
  explicit Stopwatch(Device device, backend::StreamHandle stream = nullptr);
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;
  ~Stopwatch();

  void start();
  void stop();
  /// Waits until the device has come to the stop.
  double seconds() const;

 private:
  using Clock = std::chrono::steady_clock;

  Device device_;
  backend::StreamHandle stream_;
  Clock::time_point begin_, end_;
  backend::EventHandle begin_event_ = nullptr, end_event_ = nullptr;
};

}  // namespace moeut
