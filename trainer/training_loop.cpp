#include "trainer/training_loop.h"

#include <spdlog/spdlog.h>

#include <cmath>

#include "core/check.h"
#include "trainer/evaluator.h"
#include "trainer/generator.h"
#include "trainer/lr_schedule.h"

namespace moeut {
namespace {

using Clock = std::chrono::steady_clock;

/// Random numbers of samples: away from the streams that initialise the model.
constexpr uint64_t kSampleStream = uint64_t{1} << 62;

/// Keeps the time of its scope out of the estimate of the time left.
class Excluded {
 public:
  explicit Excluded(Progress& progress) : progress_(progress) {}
  ~Excluded() { progress_.exclude(Clock::now() - start_); }

 private:
  Progress& progress_;
  Clock::time_point start_ = Clock::now();
};

}  // namespace

TrainingLoop::TrainingLoop(Run& run, StopRequest& request, Log& log, Progress& progress)
    : run_(run), request_(request), log_(log), progress_(progress) {
  if (run.cuda_graph) graph_.emplace(*run.model, *run.optimizer);
}

TrainingLoop::End TrainingLoop::run() {
  TrainingState& state = run_.state;
  const int64_t batch_size = run_.config.train.batch_size;
  if (run_.config.data.prefetch > 0) run_.training_data->start(state.next_sample, batch_size);
  do_what_is_due();
  while (state.step < run_.config.train.steps && !request_.stop()) {
    step();
    do_what_is_due();
    save_if_due();
  }
  progress_.finish();
  save();
  return run_.finished() ? End::finished : End::stopped;
}

bool TrainingLoop::due(int64_t every) const {
  return every > 0 && (run_.state.step % every == 0 || run_.state.step == run_.config.train.steps);
}

void TrainingLoop::step() {
  const Clock::time_point start = Clock::now();
  const RunConfig& config = run_.config;
  TrainingState& state = run_.state;
  const int64_t size = config.train.batch_size;
  const Batch batch =
      config.data.prefetch > 0 ? run_.training_data->next() : run_.training_data->get(state.next_sample, size);
  const double lr = learning_rate(config.schedule, config.optimizer.lr, config.train.steps, state.step);
  const StepOptions options{.lr = lr,
                            .seed = config.seed,
                            .micro_batch_size = config.train.micro_batch_size,
                            .recompute = config.train.recompute};
  graph_ ? graph_->queue_step(batch, options) : queue_step(*run_.model, *run_.optimizer, batch, options);
  state.step += 1;
  state.next_sample += static_cast<uint64_t>(size);
  const int64_t tokens = batch.real_targets();
  state.tokens += static_cast<uint64_t>(tokens);
  state.validation_due = run_.validation_data != nullptr && due(config.eval.every);
  state.sample_due = run_.inputs.tokenizer && due(config.sample.every);
  const bool logged = due(config.log.every);
  if (logged) read_step();
  record(lr, tokens, std::chrono::duration<double>(Clock::now() - start).count(), logged);
}

void TrainingLoop::read_step() {
  const StepResult result = run_.optimizer->read();
  // Its numbers count from this process's first step.
  require<Error>(
      result.refused == 0,
      "step {}: loss, regulariser or gradient norm are not all finite (the last step: {}, {}, {}); its update "
      "was not made, nor any later one. Lower optimizer.lr or optimizer.grad_clip and go on from the last "
      "checkpoint",
      run_.state.step - result.steps + result.refused, result.loss, result.reg_loss, result.grad_norm);
  if (result.skipped > last_.skipped) {
    spdlog::info("step {}: {} updates were skipped for overflow since the last look; the loss scale is now {}",
                 run_.state.step, result.skipped - last_.skipped, result.scaler.scale);
  }
  last_ = result;
}

void TrainingLoop::record(double lr, int64_t tokens, double seconds, bool logged) {
  const TrainingState& state = run_.state;
  progress_.update(state.step, last_.loss, static_cast<double>(tokens) / seconds);
  tokens_ += tokens;
  seconds_ += seconds;
  steps_ += 1;
  if (!logged) return;
  const TrainingRow row{.step = state.step,
                        .tokens = state.tokens,
                        .loss = last_.loss,
                        .reg_loss = last_.reg_loss,
                        .grad_norm = last_.grad_norm,
                        .lr = lr,
                        .tokens_per_s = static_cast<double>(tokens_) / seconds_,
                        .step_ms = 1000 * seconds_ / static_cast<double>(steps_)};
  run_.metrics->write(row);
  if (run_.tensorboard) run_.tensorboard->write(row);
  log_.file_only(progress_line(progress_.state()));
  seconds_ = 0;
  steps_ = 0;
  tokens_ = 0;
}

void TrainingLoop::do_what_is_due() {
  const Excluded excluded(progress_);
  const MemoryPool::Scope borrowed(graph_ ? graph_->memory() : nullptr);  // all of it is over before the next step
  if (run_.state.validation_due && !request_.stop()) validate();
  if (run_.state.sample_due && !request_.stop()) sample();
}

void TrainingLoop::validate() {
  const RunConfig& config = run_.config;
  int64_t batch_size = config.eval.batch_size > 0 ? config.eval.batch_size : config.train.micro_batch_size;
  if (batch_size == 0) batch_size = config.train.batch_size;
  const auto loss = validation_loss(*run_.model, *run_.validation_data,
                                    {.sequences = config.eval.sequences,
                                     .batch_size = std::min(batch_size, config.train.batch_size),
                                     .interrupted = [&] { return request_.stop(); }});
  if (!loss) return;
  const ValidationRow row{run_.state.step, *loss, std::exp(*loss)};
  run_.metrics->write(row);
  if (run_.tensorboard) run_.tensorboard->write(row);
  run_.state.validation_due = false;
  spdlog::info("step {}: validation loss {:.4f} nats/token, perplexity {:.2f}", run_.state.step, *loss,
               std::exp(*loss));
}

void TrainingLoop::sample() {
  const SampleSection& options = run_.config.sample;
  Rng rng(run_.config.seed, kSampleStream + static_cast<uint64_t>(run_.state.step));
  const auto text = generate_text(*run_.model, *run_.inputs.tokenizer, options.prompt,
                                  {.length = options.length,
                                   .temperature = options.temperature,
                                   .top_k = options.top_k,
                                   .interrupted = [&] { return request_.stop(); }},
                                  rng);
  if (!text) return;
  run_.samples->write({{"step", run_.state.step}, {"text", *text}});
  run_.state.sample_due = false;
  spdlog::info("step {}: sample\n{}\n", run_.state.step, *text);
}

void TrainingLoop::save_if_due() {
  const int64_t every = run_.config.checkpoint.every;
  const bool on_request = request_.take_save();
  if (!on_request && !(every > 0 && run_.state.step % every == 0)) return;
  save();
}

void TrainingLoop::save() {
  const Excluded excluded(progress_);
  read_step();  // nothing that was refused is saved
  run_.save();
}

}  // namespace moeut
