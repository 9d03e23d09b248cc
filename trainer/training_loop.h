// When things happen: steps, rows, validation, samples, checkpoints, and stopping.
#pragma once

#include <optional>

#include "core/stop_request.h"
#include "trainer/progress.h"
#include "trainer/ranks.h"
#include "trainer/run.h"
#include "trainer/step_graph.h"
#include "trainer/train_step.h"

namespace moeut {

class TrainingLoop {
 public:
  enum class End { finished, stopped };

  /// All must outlive the loop; the run's folder must be open. With several ranks all of them run one.
  TrainingLoop(Run& run, StopRequest& request, Log& log, Progress& progress);

  /// Trains until the last step or until asked to stop, and saves. Rows of a step are written before anything newer is
  /// saved, so that an interrupted and resumed run leaves the files of an undisturbed one. Throws Error if
  /// optimizer.max_bad_steps steps in a row were not finite, after saving the state before them.
  End run();
  /// Who asked to stop, after End::stopped.
  const std::string& stop_reason() const { return request_.reason(); }

 private:
  void step();
  /// Waits for the last step, and says what has happened since the last look. Throws Error: see run().
  void read_step();
  void tell(const NotedSteps& now, const NotedSteps& before, const char* what) const;
  /// State and sequences of a step of this process, by its number from 1.
  TrainingState state_before(int64_t step) const;
  [[noreturn]] void end_at_bad_steps();
  std::string find_bad_tensor(const TrainingState& good);
  StepOptions options_of(const TrainingState& state) const;
  std::optional<double> validation_loss_now();
  void record(double lr, int64_t tokens, double seconds, bool logged);
  void save(Run::Save kind);
  void do_what_is_due();
  void validate();
  void sample();
  bool write_sample();
  void save_if_due();
  bool due(int64_t every) const;
  void enter(const char* phase) { run_.ranks->watchdog().enter(phase, run_.state.step + 1); }

  Run& run_;
  StopRequest& own_request_;
  SharedStopRequest request_;
  Log& log_;
  Progress& progress_;
  std::optional<StepGraph> graph_;
  // Since the last row of metrics.
  StepResult last_;  // that was read
  double seconds_ = 0;
  int64_t steps_ = 0;
  int64_t tokens_ = 0;
};

}  // namespace moeut
