// One optimizer step, its parts, and the loss on held-out data.
#include "trainer/train_step.h"

#include <doctest/doctest.h>

#include <cmath>

#include "tests/trainer/tiny_run.h"
#include "tests/trainer/trained_step.h"
#include "trainer/evaluator.h"
#include "trainer/generator.h"
#include "trainer/lr_schedule.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

ModelConfig tiny_model() {
  return {.n_tokens = 30,
          .d_model = 12,
          .n_layers = 4,
          .n_heads = 2,
          .ff_n_experts = 4,
          .att_n_experts = 3,
          .ff_k = 2,
          .ff_expert_dropout = 0.2,
          .att_expert_dropout = 0.2,
          .ff_expert_size = 8,
          .dropout = 0.2};
}

Batch some_batch(int64_t sequences, int64_t seq_len) {
  return random_batch(sequences, seq_len, 30);
}

Trained step_with(int64_t micro_batch_size, bool recompute = false) {
  return trained_on(tiny_model(), some_batch(5, 7), micro_batch_size, recompute);
}

Parameter parameter_of(const std::vector<double>& value, const std::vector<double>& gradient, bool is_matrix) {
  Parameter p;
  p.name = is_matrix ? "matrix" : "bias";
  p.value = Tensor::from<double>(value, {static_cast<int64_t>(value.size())});
  p.gradient = Tensor::from<double>(gradient, {static_cast<int64_t>(gradient.size())});
  p.has_gradient = true;
  p.is_matrix = is_matrix;
  return p;
}

}  // namespace

TEST_CASE("the learning rate warms up linearly and falls along a cosine to its floor") {
  const ScheduleSection schedule{.warmup_steps = 4, .min_lr_multiplier = 0.1};
  CHECK(learning_rate(schedule, 2, 12, 0) == 0.5);
  CHECK(learning_rate(schedule, 2, 12, 3) == 2);
  CHECK(learning_rate(schedule, 2, 12, 4) == 2);
  CHECK(learning_rate(schedule, 2, 12, 8) == doctest::Approx(2 * (0.1 + 0.9 * 0.5)).epsilon(1e-15));
  CHECK(learning_rate(schedule, 2, 12, 12) == doctest::Approx(0.2).epsilon(1e-15));
  // A warm-up that is longer than the run never ends.
  CHECK(learning_rate({.warmup_steps = 100}, 2, 12, 11) == doctest::Approx(2 * 0.12).epsilon(1e-15));
}

TEST_CASE("the paper's learning rate: half a cosine over all steps, counted from the end of the warm-up") {
  const ScheduleSection schedule{.warmup_steps = 4000, .min_lr_multiplier = 0.1, .cosine_over = CosineOver::all};
  CHECK(learning_rate(schedule, 2.5e-4, 100000, 0) == doctest::Approx(6.25e-8).epsilon(1e-12));  // paper.md, section 3
  CHECK(learning_rate(schedule, 2.5e-4, 100000, 99999) ==
        doctest::Approx(2.589e-5).epsilon(2e-4));  // four digits given
}

TEST_CASE("linear, constant, warm-up-stable-decay and inverse-square-root schedules") {
  const auto rate = [](ScheduleSection schedule, int64_t t) {
    schedule.warmup_steps = 4;
    return learning_rate(schedule, 2, 12, t);
  };
  const auto near = [](double value) { return doctest::Approx(value).epsilon(1e-15); };
  for (const auto kind :
       {ScheduleKind::linear, ScheduleKind::constant, ScheduleKind::wsd, ScheduleKind::inverse_sqrt}) {
    CHECK(rate({.name = kind, .decay_steps = 4}, 0) == 0.5);
    CHECK(rate({.name = kind, .decay_steps = 4}, 3) == 2);
  }
  CHECK(rate({.name = ScheduleKind::linear, .min_lr_multiplier = 0.1}, 6) == near(2 * (0.1 + 0.9 * 0.75)));
  CHECK(rate({.name = ScheduleKind::linear, .min_lr_multiplier = 0}, 12) == 0);
  CHECK(rate({.name = ScheduleKind::constant}, 11) == 2);
  ScheduleSection wsd{.name = ScheduleKind::wsd, .min_lr_multiplier = 0.2, .decay_steps = 4};
  CHECK(rate(wsd, 7) == 2);
  CHECK(rate(wsd, 8) == 2);
  CHECK(rate(wsd, 9) == near(2 * (0.2 + 0.8 * 0.75)));
  wsd.decay_shape = DecayShape::sqrt;
  CHECK(rate(wsd, 9) == near(2 * (0.2 + 0.8 * 0.5)));
  wsd.decay_shape = DecayShape::cosine;
  CHECK(rate(wsd, 10) == near(2 * (0.2 + 0.8 * 0.5)));
  CHECK(rate({.name = ScheduleKind::inverse_sqrt, .min_lr_multiplier = 0.1}, 8) == near(2 * std::sqrt(4.0 / 9)));
  CHECK(rate({.name = ScheduleKind::inverse_sqrt, .min_lr_multiplier = 0.9}, 8) == near(2 * 0.9));
}

TEST_CASE("parameters named by a pattern do not decay; a pattern must name one") {
  const OptimizerSection options{.weight_decay = 0.5, .no_decay = "b*, matrix.?", .grad_clip = 0};
  Parameter matrix = parameter_of({1}, {0}, true), bias = parameter_of({1}, {0}, false);
  bias.name = "bias";
  CHECK_THROWS_WITH_AS(AdamW(options, {&matrix, &bias}), doctest::Contains("no parameter is named 'matrix.?'"),
                       ConfigError);
  OptimizerSection one = options;
  one.no_decay = "b*";
  AdamW optimizer(one, {&matrix, &bias});
  optimizer.step(0.1);
  CHECK(matrix.value.data<double>()[0] == doctest::Approx(0.95));
  CHECK(bias.value.data<double>()[0] == 1);
}

TEST_CASE("the moving average of the weights: the rule, and an exchange that leaves no trace") {
  Parameter p = parameter_of({1, 2}, {3, -4}, true);
  AdamW optimizer({.weight_decay = 0, .ema_decay = 0.75}, {&p});
  const auto before = p.value.to_vector<double>();
  optimizer.step(0.1);
  const auto after = p.value.to_vector<double>();
  const auto ema = optimizer.moments()[0].ema.to_vector<double>();
  for (size_t i = 0; i < 2; ++i) CHECK(ema[i] == doctest::Approx(0.75 * before[i] + 0.25 * after[i]).epsilon(1e-15));
  optimizer.swap_with_ema();
  CHECK(p.value.to_vector<double>() == ema);
  optimizer.swap_with_ema();
  CHECK(p.value.to_vector<double>() == after);
  CHECK(optimizer.moments()[0].ema.to_vector<double>() == ema);
}

TEST_CASE("AdamW clips by the norm over all parameters and decays what it is told to") {
  Parameter matrix = parameter_of({1, 2}, {3, 0}, true), bias = parameter_of({5}, {4}, false);
  AdamW optimizer({.eps = 1e-8, .weight_decay = 0.1, .decay = DecayScope::matrices, .grad_clip = 1}, {&matrix, &bias});
  optimizer.step(0.01);
  CHECK(optimizer.read().grad_norm == 5);
  // The first update of Adam is lr · sign(g), whatever the scale; g = 0 leaves the decay alone.
  CHECK(matrix.value.data<double>()[0] == doctest::Approx(1 - 0.001 - 0.01).epsilon(1e-7));
  CHECK(matrix.value.data<double>()[1] == doctest::Approx(2 - 0.002).epsilon(1e-12));
  CHECK(bias.value.data<double>()[0] == doctest::Approx(5 - 0.01).epsilon(1e-7));
  // The moments know the clipped gradient: (1 - β1) · g / (5 + 1e-6).
  CHECK(optimizer.moments()[0].exp_avg.data<double>()[0] == doctest::Approx(0.1 * 3 / (5 + 1e-6)).epsilon(1e-14));
  CHECK(optimizer.read().updates == 1);
  CHECK_FALSE(matrix.has_gradient);
  CHECK_THROWS_WITH_AS(optimizer.step(0.01), doctest::Contains("parameter matrix has no gradient"), ShapeError);
}

// Losses and gradients are sums over sequences; only the order of summation differs, a few hundred terms of size 1: the
// error is some 1e-14. Adam's division by √v + eps, eps 1e-3, makes at most 1e3 of it.
TEST_CASE("micro-batches of any size make the step of the whole batch, dropout included") {
  const Trained whole = step_with(0);
  for (const int64_t micro : {1, 2, 3, 4, 5, 9}) {
    CAPTURE(micro);
    const Trained cut = step_with(micro);
    CHECK(cut.result.loss == doctest::Approx(whole.result.loss).epsilon(1e-12));
    CHECK(cut.result.reg_loss == doctest::Approx(whole.result.reg_loss).epsilon(1e-12));
    CHECK(cut.result.grad_norm == doctest::Approx(whole.result.grad_norm).epsilon(1e-12));
    double worst = 0;
    for (size_t i = 0; i < whole.values.size(); ++i) worst = std::max(worst, std::abs(cut.values[i] - whole.values[i]));
    CHECK(worst <= 1e-10);
  }
}

// Here too only the order of summation differs, and only in the gradients of experts that are shared by repeats.
TEST_CASE("a step that runs layers again has the same losses and, up to rounding, the same result") {
  for (const int64_t micro : {0, 1, 2}) {
    CAPTURE(micro);
    const Trained kept = step_with(micro), rerun = step_with(micro, true);
    CHECK(rerun.result.loss == kept.result.loss);
    CHECK(rerun.result.reg_loss == kept.result.reg_loss);
    CHECK(rerun.result.grad_norm == doctest::Approx(kept.result.grad_norm).epsilon(1e-12));
    double worst = 0;
    for (size_t i = 0; i < kept.values.size(); ++i) worst = std::max(worst, std::abs(rerun.values[i] - kept.values[i]));
    CHECK(worst <= 1e-10);
  }
}

TEST_CASE("a step whose loss is not finite changes nothing") {
  MoeutLm model(tiny_model(), 1);
  AdamW optimizer({.max_bad_steps = 1}, model.parameters());
  model.lm_head.bias.value.data<float>()[0] = std::numeric_limits<float>::infinity();
  const auto before = model.embedding.weight.value.to_vector<float>();
  const StepResult result = train_step(model, optimizer, some_batch(2, 3), {.lr = 1});
  CHECK_FALSE(result.updated);
  CHECK(result.updates == 0);
  CHECK(result.refused == 1);
  model.lm_head.bias.value.data<float>()[0] = 0;
  CHECK_FALSE(train_step(model, optimizer, some_batch(2, 3), {.lr = 1}).updated);  // the host was to look first
  CHECK(model.embedding.weight.value.to_vector<float>() == before);
}

TEST_CASE("scaled losses: an overflow is skipped and halves the scale, and the next step is made") {
  Parameter p = parameter_of({1, 2}, {3, 4}, true);
  AdamW optimizer({.grad_clip = 0}, {&p});
  optimizer.scale_losses();
  optimizer.restore(7, {.scale = 4, .good_steps = 3});
  CHECK(optimizer.loss_scale().data<float>()[0] == 4);
  p.gradient.data<double>()[0] = std::numeric_limits<double>::infinity();
  optimizer.step(0.01);
  StepResult result = optimizer.read();
  CHECK_FALSE(result.updated);
  CHECK(result.skipped == 1);
  CHECK(result.refused == 0);
  CHECK(result.updates == 7);
  CHECK(result.scaler == GradScaler{.scale = 2, .good_steps = 0});
  CHECK(optimizer.loss_scale().data<float>()[0] == 2);
  CHECK(p.value.to_vector<double>() == std::vector<double>{1, 2});
  p.gradient.data<double>()[0] = 3;
  p.has_gradient = true;
  optimizer.step(0.01);
  result = optimizer.read();
  CHECK(result.updated);
  CHECK(result.grad_norm == 2.5);  // 5 at a loss scale of 2
  CHECK(result.updates == 8);
  CHECK(result.scaler.good_steps == 1);
  CHECK(optimizer.moments()[0].exp_avg.data<double>()[0] == doctest::Approx(0.1 * 1.5).epsilon(1e-14));
}

TEST_CASE("scaled losses: where no smaller scale is left, the step is refused") {
  Parameter p = parameter_of({1}, {std::numeric_limits<double>::quiet_NaN()}, true);
  AdamW optimizer({.max_bad_steps = 1}, {&p});
  optimizer.scale_losses();
  optimizer.restore(0, {.scale = GradScaler::kSmallest});
  optimizer.step(0.01);
  CHECK(optimizer.read().refused == 1);
}

TEST_CASE("a tiny model learns a sequence by heart") {
  ModelConfig config = tiny_model();
  config.dropout = config.ff_expert_dropout = config.att_expert_dropout = 0;
  MoeutLm model(config, 1);
  AdamW optimizer({.grad_clip = 1}, model.parameters());
  Batch batch{.sequences = 1, .seq_len = 16};
  for (int32_t i = 0; i < 16; ++i) {
    batch.tokens.push_back((i * i + 3) % 30);
    batch.targets.push_back(((i + 1) * (i + 1) + 3) % 30);
  }
  StepResult last;
  for (int step = 0; step < 150; ++step) last = train_step(model, optimizer, batch, {.lr = 0.01});
  CHECK(last.loss < 0.05);  // from ln 30 = 3.4
  Rng rng(1, 1);
  const auto drawn = generate(model, {batch.tokens[0]}, {.length = 15, .temperature = 0}, rng);
  CHECK(drawn == std::vector<int32_t>(batch.targets.begin(), batch.targets.end() - 1));
}

TEST_CASE("the validation loss does not depend on the batch size and stops on request") {
  const auto data = TokenDataset::open(TinyData::get().folder() / "shards/validation");
  const Loader loader(data, {.seq_len = 8, .order = SampleOrder::sequential});
  ModelConfig config = tiny_model();
  config.n_tokens = data->vocab_size();
  MoeutLm model(config, 1, {.dtype = DType::f64});
  const auto loss = [&](int64_t batch_size, int64_t sequences) {
    return validation_loss(model, loader, {.sequences = sequences, .batch_size = batch_size}).value();
  };
  CHECK(loss(1, 0) == doctest::Approx(loss(5, 0)).epsilon(1e-12));
  CHECK(loss(3, 4) == doctest::Approx(loss(4, 4)).epsilon(1e-12));
  CHECK(loss(2, 4) != loss(2, 0));
  CHECK_FALSE(validation_loss(model, loader, {.batch_size = 1, .interrupted = [] { return true; }}).has_value());
}
