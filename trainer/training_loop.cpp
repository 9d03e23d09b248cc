#include "trainer/training_loop.h"

#include <spdlog/spdlog.h>

#include <cmath>
#include <utility>

#include "core/check.h"
#include "trainer/bad_step.h"
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

/// The model has the moving averages as its weights meanwhile.
class WithEma {
 public:
  WithEma(MoeutLm& model, AdamW& optimizer) : model_(model), optimizer_(optimizer) { exchange(); }
  WithEma(const WithEma&) = delete;
  ~WithEma() { exchange(); }

 private:
  void exchange() {
    optimizer_.swap_with_ema();
    model_.refresh_narrow();
  }
  MoeutLm& model_;
  AdamW& optimizer_;
};

}  // namespace

TrainingLoop::TrainingLoop(Run& run, StopRequest& request, Log& log, Progress& progress)
    : run_(run), own_request_(request), request_(*run.ranks, request), log_(log), progress_(progress) {
  if (run.cuda_graph) graph_.emplace(*run.model, *run.optimizer);
}

TrainingLoop::End TrainingLoop::run() {
  TrainingState& state = run_.state;
  if (run_.config.data.prefetch > 0) {
    run_.training_data->start(state.next_sample + static_cast<uint64_t>(run_.first_sequence()), run_.sequences(),
                              run_.config.train.batch_size);
  }
  do_what_is_due();
  while (state.step < run_.config.train.steps && !request_.stop()) {
    step();
    do_what_is_due();
    save_if_due();
    run_.look_at_save();
  }
  progress_.finish();
  save(Run::Save::last);
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
  const Loader& data = *run_.training_data;
  enter("data");
  const Batch batch =
      config.data.prefetch > 0
          ? run_.training_data->next()
          : data.get(state.next_sample + static_cast<uint64_t>(run_.first_sequence()), run_.sequences());
  StepOptions options = options_of(state);
  options.lr = learning_rate(config.schedule, config.optimizer.lr, config.train.steps, state.step);
  graph_ ? graph_->queue_step(batch, options) : queue_step(*run_.model, *run_.optimizer, batch, options);
  state.step += 1;
  state.next_sample += static_cast<uint64_t>(size);
  const int64_t tokens = options.whole->targets;
  state.tokens += static_cast<uint64_t>(tokens);
  state.validation_loss.reset();
  state.validation_due = run_.validation_data != nullptr && due(config.eval.every);
  state.sample_due = run_.inputs.tokenizer && due(config.sample.every);
  const bool logged = due(config.log.every);
  if (logged) read_step();
  record(options.lr, tokens, std::chrono::duration<double>(Clock::now() - start).count(), logged);
}

StepOptions TrainingLoop::options_of(const TrainingState& state) const {
  const RunConfig& config = run_.config;
  const int64_t size = config.train.batch_size;
  return {.seed = config.seed,
          .micro_batch_size = run_.micro_batch_size(),
          .recompute = config.train.recompute,
          .reduction = run_.reduction.get(),
          .whole = WholeBatch{size, run_.training_data->real_targets(state.next_sample, size)},
          .watchdog = &run_.ranks->watchdog(),
          .step = state.step + 1};
}

void TrainingLoop::read_step() {
  const Watchdog::Waiting waiting(run_.ranks->watchdog());  // for a GPU, which may wait for others
  const StepResult before =
      std::exchange(last_, run_.optimizer->read());  // its numbers count from this process's first step
  if (last_.skipped > before.skipped) {
    spdlog::info("step {}: {} updates were skipped for overflow since the last look; the loss scale is now {}",
                 run_.state.step, last_.skipped - before.skipped, last_.scaler.scale);
  }
  tell(last_.bad, before.bad, "loss or gradient are not finite; the update was left out");
  const bool skips = run_.config.optimizer.spike_action == SpikeAction::skip;
  tell(last_.spikes, before.spikes,
       skips ? "loss or gradient norm is a spike; the update was left out" : "loss or gradient norm is a spike");
  if (last_.refused != 0) end_at_bad_steps();
}

void TrainingLoop::tell(const NotedSteps& now, const NotedSteps& before, const char* what) const {
  const int64_t news = now.count - before.count, shown = std::min<int64_t>(news, static_cast<int64_t>(now.last.size()));
  for (auto step = now.last.end() - shown; step != now.last.end(); ++step) {
    const TrainingState state = state_before(*step);
    spdlog::warn("step {}: {} (sequences {} to {})", state.step + 1, what, state.next_sample,
                 state.next_sample + static_cast<uint64_t>(run_.config.train.batch_size) - 1);
  }
  if (news > shown) spdlog::warn("{} earlier steps likewise", news - shown);
}

TrainingState TrainingLoop::state_before(int64_t step) const {
  TrainingState state = run_.state;
  const int64_t back = last_.steps - step + 1, size = run_.config.train.batch_size;
  state.step -= back;
  state.next_sample -= static_cast<uint64_t>(back * size);
  state.validation_due = state.sample_due = false;
  state.validation_loss.reset();
  return state;
}

void TrainingLoop::end_at_bad_steps() {
  const RunConfig& config = run_.config;
  TrainingState good = state_before(last_.refused);
  for (uint64_t sample = good.next_sample; sample < run_.state.next_sample;
       sample += static_cast<uint64_t>(config.train.batch_size))
    good.tokens -= static_cast<uint64_t>(run_.training_data->real_targets(sample, config.train.batch_size));
  run_.save_before_bad_steps(good);
  const std::string found = find_bad_tensor(good);
  if (!run_.ranks->leads()) throw OtherRankFailed(false);  // which says it
  throw Error(fmt::format(
      "optimizer.max_bad_steps = {} steps in a row, from step {} on (sequences {} to {}), had a loss or gradient that "
      "is not finite; the last one "
      "had loss {}, regulariser {}, gradient norm {}. Step {} computed again: the first tensor that is not finite is "
      "{}. "
      "No update was made since; the state before it is saved. Lower optimizer.lr or optimizer.grad_clip, or look at "
      "these sequences, and go on",
      config.optimizer.max_bad_steps, good.step + 1, good.next_sample,
      good.next_sample + static_cast<uint64_t>(config.train.batch_size) - 1, last_.loss, last_.reg_loss,
      last_.grad_norm, good.step + 1, found));
}

/// Every rank looks at its own part of the batch.
std::string TrainingLoop::find_bad_tensor(const TrainingState& good) {
  const MemoryPool::Scope borrowed(graph_ ? graph_->memory() : nullptr);
  const Batch batch =
      run_.training_data->get(good.next_sample + static_cast<uint64_t>(run_.first_sequence()), run_.sequences());
  StepOptions options = options_of(good);
  options.reduction = nullptr;
  const auto found =
      run_.ranks->communicator().all_gather(find_not_finite(*run_.model, *run_.optimizer, batch, options).value_or(""));
  for (const std::string& text : found)
    if (!text.empty()) return text;
  return "none: parameters and gradients are finite, so it is the loss, the regulariser or the norm";
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
  if (run_.metrics) run_.metrics->write(row);
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

std::optional<double> TrainingLoop::validation_loss_now() {
  const RunConfig& config = run_.config;
  int64_t batch_size = config.eval.batch_size > 0 ? config.eval.batch_size : config.train.micro_batch_size;
  if (batch_size == 0) batch_size = config.train.batch_size;
  return validation_loss(*run_.model, *run_.validation_data,
                         {.sequences = config.eval.sequences,
                          .batch_size = std::min(batch_size, config.train.batch_size),
                          .ranks = run_.ranks.get(),
                          .interrupted = [&] {
                            run_.ranks->watchdog().enter("validation", run_.state.step);
                            return request_.stop();
                          }});
}

void TrainingLoop::validate() {
  const auto loss = validation_loss_now();
  if (!loss) return;
  ValidationRow row{run_.state.step, *loss, std::exp(*loss)};
  if (run_.optimizer->has_ema()) {
    const WithEma exchanged(*run_.model, *run_.optimizer);
    row.val_loss_ema = validation_loss_now();
    if (!row.val_loss_ema) return;
  }
  if (run_.metrics) run_.metrics->write(row);
  if (run_.tensorboard) run_.tensorboard->write(row);
  run_.state.validation_due = false;
  run_.state.validation_loss = *loss;
  spdlog::info("step {}: validation loss {:.4f} nats/token, perplexity {:.2f}{}", run_.state.step, *loss,
               std::exp(*loss),
               row.val_loss_ema ? fmt::format("; {:.4f} with averaged weights", *row.val_loss_ema) : "");
}

/// Rank 0 alone; the others learn whether it came to an end.
void TrainingLoop::sample() {
  run_.ranks->watchdog().enter("sample", run_.state.step);
  if (run_.ranks->agreed_by_first(run_.ranks->leads() && write_sample())) run_.state.sample_due = false;
}

bool TrainingLoop::write_sample() {
  const SampleSection& options = run_.config.sample;
  Rng rng(run_.config.seed, kSampleStream + static_cast<uint64_t>(run_.state.step));
  const auto text = generate_text(*run_.model, *run_.inputs.tokenizer, options.prompt,
                                  {.length = options.length,
                                   .temperature = options.temperature,
                                   .top_k = options.top_k,
                                   .interrupted =
                                       [&] {
                                         run_.ranks->watchdog().renew();
                                         return own_request_.stop();
                                       }},
                                  rng);
  if (!text) return false;
  run_.samples->write({{"step", run_.state.step}, {"text", *text}});
  spdlog::info("step {}: sample\n{}\n", run_.state.step, *text);
  return true;
}

void TrainingLoop::save_if_due() {
  const int64_t every = run_.config.checkpoint.every;
  const bool on_request = request_.take_save();
  if (!on_request && !(every > 0 && run_.state.step % every == 0)) return;
  save(Run::Save::on_the_way);
}

void TrainingLoop::save(Run::Save kind) {
  const Excluded excluded(progress_);
  read_step();  // nothing that was refused is saved
  run_.save(kind);
}

}  // namespace moeut
