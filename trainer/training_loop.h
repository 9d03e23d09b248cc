// When things happen: steps, rows, validation, samples, checkpoints, and stopping.
#pragma once

#include "core/stop_request.h"
#include "trainer/progress.h"
#include "trainer/run.h"
#include "trainer/step_graph.h"
#include "trainer/train_step.h"

namespace moeut {

class TrainingLoop {
 public:
  enum class End { finished, stopped };

  /// All must outlive the loop; the run's folder must be open.
  TrainingLoop(Run& run, StopRequest& request, Log& log, Progress& progress);

  /// Trains until the last step or until asked to stop, and saves. Rows of a step are written before anything newer is
  /// saved, so that an interrupted and resumed run leaves the files of an undisturbed one. Throws Error if a loss or
  /// gradient is not finite: parameters stay those before that step, and nothing is saved.
  End run();

 private:
  void step();
  /// Waits for the last step and looks at it. Throws Error if a step since the last look was not finite.
  void read_step();
  void record(double lr, int64_t tokens, double seconds, bool logged);
  void save();
  void do_what_is_due();
  void validate();
  void sample();
  void save_if_due();
  bool due(int64_t every) const;

  Run& run_;
  StopRequest& request_;
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
