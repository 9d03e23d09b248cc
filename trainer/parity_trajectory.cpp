#include <algorithm>
#include <optional>

#include "trainer/lr_schedule.h"
#include "trainer/parity.h"
#include "trainer/parity_model.h"
#include "trainer/train_step.h"

namespace moeut {
namespace {

/// A model in training from the trajectory's parameters.
struct Trainee {
  Trainee(const GoldenTrajectory& t, const ModuleOptions& options)
      : model(make_model<MoeutLm>(t.config, t.parameters, options)),
        optimizer(t.training.optimizer, model->parameters()) {}

  std::unique_ptr<MoeutLm> model;
  AdamW optimizer;
};

Batch batch_of(const GoldenTrajectory& t, int64_t step) {
  const int64_t sequences = t.tokens.shape()[1], width = t.tokens.shape()[2];
  Batch batch{.sequences = sequences, .seq_len = width - 1, .first_sample = 0, .tokens = {}, .targets = {}};
  const int32_t* row = t.tokens.data<int32_t>() + step * sequences * width;
  for (int64_t b = 0; b < sequences; ++b, row += width) {
    batch.tokens.insert(batch.tokens.end(), row, row + width - 1);
    batch.targets.insert(batch.targets.end(), row + 1, row + width);
  }
  return batch;
}

void take_worst(double& worst, double error) {
  worst = std::max(worst, error);
}

/// Mean of the last `count` of them.
double end_mean(const std::vector<double>& losses, int64_t count) {
  double sum = 0;
  for (auto it = losses.end() - count; it != losses.end(); ++it) sum += *it;
  return sum / static_cast<double>(count);
}

void compare_step(const GoldenTrajectory& t, int64_t step, const StepResult& result, double lr, TrajectoryErrors& e) {
  const auto s = static_cast<size_t>(step);
  const double ce_error = relative_error(result.loss, t.ce_loss[s]);
  take_worst(e.ce_loss, ce_error);
  if (step < kTrajectoryWindow) take_worst(e.ce_loss_begin, ce_error);
  take_worst(e.reg_loss, relative_error(result.reg_loss, t.reg_loss[s]));
  take_worst(e.grad_norm, relative_error(result.grad_norm, t.grad_norm[s]));
  take_worst(e.lr, relative_error(lr, t.lr[s]));
}

void compare_losses(const GoldenTrajectory& t, const std::vector<double>& losses, TrajectoryErrors& e) {
  const int64_t window = std::min(kTrajectoryWindow, e.steps);
  e.end_mean = end_mean(losses, window);
  e.reference_end_mean = end_mean({t.ce_loss.begin(), t.ce_loss.begin() + e.steps}, window);
}

void compare_parameters(const GoldenTrajectory& t, MoeutLm& model, TrajectoryErrors& e) {
  model.visit_parameters([&](Parameter& p) {
    const auto expected = t.final_parameters.find(p.name);
    if (expected == t.final_parameters.end()) return;
    e.parameters.push_back({p.name, relative_error(p.value, expected->second)});
  });
}

}  // namespace

TrajectoryErrors measure(const GoldenTrajectory& t, const ParityOptions& options) {
  Trainee trainee(t, module_options(options.precision, options.device));
  std::optional<Trainee> exact;  // trains alongside and says which experts to take
  if (options.routing == RoutingSource::reference) exact.emplace(t, kExact);
  TrajectoryErrors errors;
  errors.steps = options.max_steps > 0 ? std::min(options.max_steps, t.steps()) : t.steps();
  std::vector<double> losses;
  if (options.precision == Precision::fp16) trainee.optimizer.scale_losses();
  for (int64_t step = 0; step < errors.steps; ++step) {
    const Batch batch = batch_of(t, step);
    const double lr = learning_rate(t.training.schedule, t.training.optimizer.lr, t.steps(), step);
    RoutingTrace trace;
    if (exact) train_step(*exact->model, exact->optimizer, batch, {.lr = lr, .record = &trace});
    const StepResult result =
        train_step(*trainee.model, trainee.optimizer, batch, {.lr = lr, .replay = exact ? &trace : nullptr});
    compare_step(t, step, result, lr, errors);
    losses.push_back(result.loss);
  }
  compare_losses(t, losses, errors);
  if (errors.steps == t.steps()) compare_parameters(t, *trainee.model, errors);
  return errors;
}

double TrajectoryErrors::end_error() const {
  return relative_error(end_mean, reference_end_mean);
}

}  // namespace moeut
