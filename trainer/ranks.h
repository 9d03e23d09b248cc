// The ranks of a run as the trainer uses them: who they are, where each computes, and how they decide as one.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/stop_request.h"
#include "trainer/communicator.h"
#include "trainer/config.h"
#include "trainer/watchdog.h"

namespace moeut {

/// Thrown on the ranks that have nothing to say: another one has failed and says why.
class OtherRankFailed : public Error {
 public:
  explicit OtherRankFailed(bool by_config_error) : Error("another rank has failed"), refused(by_config_error) {}
  bool refused;  ///< by a ConfigError
};

class Ranks {
 public:
  /// This process alone, on the device that the configuration names.
  static std::shared_ptr<Ranks> alone(const RunConfig& config);
  /// The processes that were started together (find_place), each on its device: its own GPU, or a CPU; the watchdog's
  /// last word goes to the run's log as well. Throws ConfigError, on every rank, if there are more ranks than GPUs.
  static std::shared_ptr<Ranks> gather(const RunConfig& config);
  /// With a communicator of one's own, on CPUs and without a watchdog's thread: for tests.
  Ranks(std::unique_ptr<Communicator> communicator, Device device, const WatchdogOptions& watchdog);

  Communicator& communicator() { return *communicator_; }
  Watchdog& watchdog() { return *watchdog_; }
  Device device() const { return device_; }
  int rank() const { return communicator_->rank(); }
  int size() const { return communicator_->size(); }
  bool alone() const { return size() == 1; }
  bool leads() const { return rank() == 0; }
  /// This rank's share of the cores it may run on: other ranks of its host may have been given the same. Collective.
  int64_t fair_threads();

  /// Does something on every rank, that needs no other, and throws on all of them if it threw on any: on rank 0 what it
  /// threw there, or else the first other rank's message behind its name; on the others OtherRankFailed.
  void together(const std::function<void()>& action);
  /// Throws Error, as together does, unless all ranks have the same `value`: names those that differ from most.
  void require_same(const std::string& what, const std::string& value);
  /// Rank 0's word, on every rank. Collective.
  bool agreed_by_first(bool own);
  /// At the end of the program: all have come so far.
  void close();

 private:
  std::unique_ptr<Communicator> communicator_;
  Device device_;
  std::unique_ptr<Watchdog> watchdog_;
};

/// Requests from outside as all ranks together see them: what one was asked for, all do, at the same step. Every call
/// is collective.
class SharedStopRequest {
 public:
  SharedStopRequest(Ranks& ranks, StopRequest& request) : ranks_(ranks), request_(request) {}
  bool stop();
  bool take_save();
  const std::string& reason() const { return reason_; }

 private:
  Ranks& ranks_;
  StopRequest& request_;
  bool stopped_ = false;
  std::string reason_;
};

}  // namespace moeut
