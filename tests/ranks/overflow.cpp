#include "tests/ranks/overflow.h"

#include <cmath>
#include <limits>

#include "data/hash.h"
#include "tests/ranks/checks.h"
#include "trainer/checkpoint.h"
#include "trainer/device_reduction.h"
#include "trainer/exact_reduction.h"
#include "trainer/random_tokens.h"
#include "trainer/run_inputs.h"
#include "trainer/train_step.h"
#include "trainer/training_state.h"

namespace moeut {
namespace {

constexpr int64_t kMicroBatches = 12, kSeqLen = 16, kSteps = 3;

ModelConfig small_model() {
  return {.n_tokens = 100,
          .d_model = 32,
          .n_layers = 4,
          .n_heads = 2,
          .ff_n_experts = 8,
          .att_n_experts = 3,
          .ff_k = 2,
          .ff_expert_dropout = 0.1,
          .ff_expert_size = 16,
          .dropout = 0.1};
}

/// The micro-batch that overflows in a step, counted from 1; -1: none does.
int64_t overflowing(int64_t step) {
  return step == 2 ? 11 : step == 3 ? 0 : step == 5 ? 6 : -1;
}

/// Makes a gradient infinite before anybody else sees it.
class Overflow final : public GradientReduction {
 public:
  Overflow(GradientReduction& real, Parameter& parameter) : real_(real), parameter_(parameter) {}

  bool spoils = false;  ///< this rank, in the next step

  void watch(Tape& tape, bool last) override {
    real_.watch(tape, last);
    if (!spoils || !last) return;
    tape.on_final_gradient = [this, next = tape.on_final_gradient](Parameter& p) {
      if (&p == &parameter_) {
        const std::vector<float> infinite(static_cast<size_t>(p.value.size()), std::numeric_limits<float>::infinity());
        p.gradient.copy_from(Tensor::from<float>(infinite, p.value.shape()));
      }
      if (next) next(p);
    };
  }
  void add(AdamW& optimizer, const Tensor& loss, const Tensor& reg_loss) override {
    real_.add(optimizer, loss, reg_loss);
  }
  void finish(AdamW& optimizer) override { real_.finish(optimizer); }

 private:
  GradientReduction& real_;
  Parameter& parameter_;
};

std::unique_ptr<GradientReduction> make_reduction(Ranks& ranks, MoeutLm& model) {
  if (ranks.communicator().device() != nullptr)
    return std::make_unique<DeviceReduction>(ranks.communicator(), model.parameters(), DeviceReduction::Options());
  return std::make_unique<ExactReduction>(ranks.communicator(), model.parameters(), kMicroBatches, false);
}

void save(CheckpointStore& store, MoeutLm& model, AdamW& optimizer, TrainingState state) {
  CheckpointContent content;
  add_tensors(content, model, optimizer);
  state.optimizer = optimizer.state();
  content.state_json = state.to_json();
  content.step = static_cast<uint64_t>(state.step);
  store.save(content);
}

std::string hash_of(MoeutLm& model) {
  Xxh3 hash;
  model.visit_parameters([&](Parameter& p) {
    const Tensor host = p.value.to(Device::cpu());
    hash.update(host.raw(), host.bytes());
  });
  return hash.hex();
}

}  // namespace

int overflow(Ranks& ranks, const std::string& folder) {
  Checks checks(ranks);
  const ModelConfig config = small_model();
  MoeutLm model(config, 1, module_options(Precision::fp16, ranks.device()));
  const auto real = make_reduction(ranks, model);
  Overflow reduction(*real, model.lm_head.bias);
  AdamW optimizer({}, model.parameters());
  optimizer.scale_losses();
  CheckpointStore store(FileSystem::posix(), folder);
  TrainingState state;
  if (const auto checkpoint = store.newest_verified()) state = restore(*checkpoint, model, optimizer);
  const RandomTokens data(config.n_tokens, kMicroBatches * kSeqLen * 8 + 1, 3);
  const Loader loader(data.dataset(), {.seed = 3, .seq_len = kSeqLen});
  const MicroBatchShare share = share_of(kMicroBatches, ranks.rank(), ranks.size());
  for (const int64_t end = state.step + kSteps; state.step < end;) {
    const int64_t step = ++state.step, bad = overflowing(step);
    reduction.spoils = share.first <= bad && bad < share.first + share.count;
    const Batch batch = loader.get(state.next_sample + static_cast<uint64_t>(share.first), share.count);
    state.next_sample += kMicroBatches;
    const double scale_before = optimizer.state().scaler.scale;
    const StepResult result = train_step(model, optimizer, batch,
                                         {.lr = 0.01,
                                          .seed = 7,
                                          .micro_batch_size = 1,
                                          .reduction = &reduction,
                                          .whole = WholeBatch{kMicroBatches, kMicroBatches * kSeqLen}});
    const bool right = result.updated == (bad < 0) && std::isfinite(result.loss) && result.bad.count == 0 &&
                       result.scaler.scale == (bad < 0 ? scale_before : scale_before / 2);
    checks.expect(
        fmt::format("step {}: {}, loss scale {}", step, bad < 0 ? "an update" : "left out", result.scaler.scale),
        right);
    TrainingState own = state;
    own.optimizer = optimizer.state();
    const auto all = ranks.communicator().all_gather(own.to_json() + hash_of(model));
    checks.expect("one state on all ranks", std::count(all.begin(), all.end(), all[0]) == ranks.size());
  }
  ranks.together([&] {
    if (ranks.leads()) save(store, model, optimizer, state);
  });
  return checks.status();
}

}  // namespace moeut
