// The same step on any number of ranks, bit for bit. (Real processes: tests/scripts/programs/test_ranks.py.)
#include "trainer/exact_reduction.h"

#include <doctest/doctest.h>
#include <omp.h>

#include <cmath>

#include "data/loader.h"
#include "tests/testing.h"
#include "tests/trainer/ragged_model.h"
#include "tests/trainer/thread_ranks.h"
#include "tests/trainer/trained_step.h"
#include "trainer/training_state.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

constexpr int64_t kSequences = 9, kMicroBatch = 2;  // five micro-batches, the last of one sequence

struct Case {
  DType dtype = DType::f32, compute = DType::f32;
  bool sharded = false, scaled = false;
};

/// Sequences [first, first + count) of a batch.
Batch rows_of(const Batch& whole, int64_t first, int64_t count) {
  Batch part{.sequences = count, .seq_len = whole.seq_len};
  part.first_sample = whole.first_sample + static_cast<uint64_t>(first);
  const auto begin = first * whole.seq_len, end = (first + count) * whole.seq_len;
  part.tokens.assign(whole.tokens.begin() + begin, whole.tokens.begin() + end);
  part.targets.assign(whole.targets.begin() + begin, whole.targets.begin() + end);
  return part;
}

struct Outcome {
  std::vector<double> losses, norms;
  std::vector<std::vector<char>> tensors;  // values, moments and averages as a checkpoint has them
  OptimizerState state;
  bool operator==(const Outcome&) const = default;
};

std::vector<std::vector<char>> bytes_of(const CheckpointContent& content) {
  std::vector<std::vector<char>> all;
  for (const auto* tensors : {&content.model, &content.optimizer, &content.ema}) {
    for (const TensorBytes& tensor : *tensors) {
      std::vector<char>& bytes = all.emplace_back(tensor.bytes());
      if (tensor.data != nullptr)
        std::memcpy(bytes.data(), tensor.data, bytes.size());
      else
        tensor.fill(0, bytes.data(), bytes.size());
    }
  }
  return all;
}

/// Three steps on `ranks` ranks; in the second, the gradient of one micro-batch overflows if `overflow` says so.
Outcome trained_by(int ranks, const Case& c, bool overflow = false) {
  Outcome outcome;
  run_ranks(ranks, [&](Communicator& communicator) {
    omp_set_num_threads(1);
    MoeutLm model(ragged_model(3), 1, {.dtype = c.dtype, .compute = c.compute});
    ExactReduction reduction(communicator, model.parameters(), 5, c.sharded);
    OptimizerSection options;
    options.ema_decay = 0.9;
    AdamW optimizer(options, model.parameters(), c.sharded ? &reduction : nullptr);
    if (c.scaled) optimizer.scale_losses();
    const MicroBatchShare share = share_of(5, communicator.rank(), ranks);
    const int64_t first = share.first * kMicroBatch;
    const int64_t count = std::min(share.count * kMicroBatch, kSequences - first);
    for (int step = 0; step < 3; ++step) {
      Batch whole = random_batch(kSequences, 11, 37);
      whole.first_sample = static_cast<uint64_t>(step * kSequences);
      std::rotate(whole.tokens.begin(), whole.tokens.begin() + step, whole.tokens.end());
      const bool spoil = overflow && step == 1 && first <= 4 && 4 < first + count;  // who has sequence 4
      Tensor& bias = model.lm_head.bias.value;
      const Tensor kept = bias.clone();
      if (spoil) bias.data<float>()[0] = std::numeric_limits<float>::infinity();
      const StepResult result = train_step(model, optimizer, rows_of(whole, first, count),
                                           {.lr = 0.01,
                                            .seed = 7,
                                            .micro_batch_size = kMicroBatch,
                                            .reduction = &reduction,
                                            .whole = WholeBatch{kSequences, kSequences * 11}});
      if (spoil) bias.copy_from(kept);
      CHECK(result.updated == !(overflow && step == 1));
      if (!communicator.leads()) continue;
      outcome.losses.push_back(result.loss);
      outcome.losses.push_back(result.reg_loss);
      outcome.norms.push_back(result.grad_norm);
    }
    optimizer.share_values();
    CheckpointContent content;
    add_tensors(content, model, optimizer);
    if (!communicator.leads()) return;
    outcome.tensors = bytes_of(content);
    outcome.state = optimizer.state();
  });
  return outcome;
}

}  // namespace

TEST_CASE("losses, norms, weights, moments and averages are the same bits on 1 to 5 ranks, sharded or not") {
  for (const auto& [dtype, compute] :
       {std::pair{DType::f32, DType::f32}, {DType::f64, DType::f64}, {DType::f32, DType::bf16}}) {
    const Outcome alone = trained_by(1, {dtype, compute});
    CHECK(alone.losses.size() == 6);
    CHECK(std::isfinite(alone.norms[2]));
    for (int ranks = 1; ranks <= 5; ++ranks) {
      for (const bool sharded : {false, true}) {
        CAPTURE(name_of(compute));
        CAPTURE(ranks);
        CAPTURE(sharded);
        CHECK(trained_by(ranks, {dtype, compute, sharded}) == alone);
      }
    }
  }
}

TEST_CASE("an overflow on one rank is every rank's: the same step is left out, the same scale follows") {
  const Case scaled{DType::f32, DType::f16, false, true};
  const auto finite = [](Outcome outcome) {
    for (double& x : outcome.losses) x = std::isfinite(x) ? x : 0;
    for (double& x : outcome.norms) x = std::isfinite(x) ? x : 0;
    return outcome;
  };
  const Outcome alone = finite(trained_by(1, scaled, true));
  CHECK(alone.state.updates == 2);
  CHECK(alone.state.scaler.scale < GradScaler().scale);
  for (const int ranks : {2, 3, 5}) {
    CAPTURE(ranks);
    CHECK(finite(trained_by(ranks, scaled, true)) == alone);
    CHECK(finite(trained_by(ranks, {DType::f32, DType::f16, true, true}, true)) == alone);
  }
}

TEST_CASE("the sum over micro-batches is the gradient of the batch") {
  MoeutLm model(ragged_model(3), 1, {.dtype = DType::f64});
  const Batch batch = random_batch(kSequences, 11, 37);
  const auto gradients = [&](int64_t micro_batch, GradientReduction* reduction) {
    AdamW optimizer({}, model.parameters());
    StepInputs inputs(StepForm::of(batch, micro_batch, kSequences), Device::cpu(), DType::f64);
    inputs.write(batch, WholeBatch::of(batch), 7);
    accumulate_gradients(model, optimizer, inputs, {.reduction = reduction});
    if (reduction != nullptr) reduction->finish(optimizer);
    std::vector<double> all;
    model.visit_parameters([&](Parameter& p) {
      const auto values = p.gradient.to_vector<double>();
      all.insert(all.end(), values.begin(), values.end());
      p.clear_gradient();
    });
    return all;
  };
  const auto alone = make_single_communicator();
  ExactReduction reduction(*alone, model.parameters(), 5, false);
  const auto whole = gradients(kSequences, nullptr), parts = gradients(kMicroBatch, &reduction);
  double worst = 0, largest = 0;
  for (size_t i = 0; i < whole.size(); ++i) {
    worst = std::max(worst, std::abs(whole[i] - parts[i]));
    largest = std::max(largest, std::abs(whole[i]));
  }
  CHECK(largest > 0.01);
  CHECK(worst < 1e-13 * largest);  // sums of a few hundred terms in another order
}
