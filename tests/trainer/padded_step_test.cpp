// Steps on batches with ignored targets, and with a document mask.
#include <doctest/doctest.h>

#include <cmath>

#include "tests/trainer/ragged_model.h"
#include "tests/trainer/tiny_run.h"
#include "tests/trainer/trained_step.h"
#include "trainer/evaluator.h"
#include "trainer/train_step.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

Batch random_batch(int64_t sequences, int64_t seq_len) {
  return testing::random_batch(sequences, seq_len, 37);
}

Trained step_on(const Batch& batch, int64_t micro_batch_size) {
  return trained_on(ragged_model(4), batch, micro_batch_size);
}

// Only the order of summation differs: see train_step_test.cpp.
void expect_close(const Trained& a, const Trained& b) {
  CHECK(a.result.loss == doctest::Approx(b.result.loss).epsilon(1e-12));
  CHECK(a.result.reg_loss == doctest::Approx(b.result.reg_loss).epsilon(1e-12));
  CHECK(a.result.grad_norm == doctest::Approx(b.result.grad_norm).epsilon(1e-12));
  double worst = 0;
  for (size_t i = 0; i < a.values.size(); ++i) worst = std::max(worst, std::abs(a.values[i] - b.values[i]));
  CHECK(worst <= 1e-10);
}

/// Logits (B, T, V) without dropout.
std::vector<double> logits_of(MoeutLm& model, const Batch& batch) {
  Tape tape(Tape::Recording::off);
  ForwardContext context(tape);
  const Tensor tokens = ids_on(Device::cpu(), batch.tokens, batch.sequences, batch.seq_len);
  const Tensor starts = ids_on(Device::cpu(), batch.document_starts, batch.sequences, batch.seq_len);
  const MoeutOutput out = model.forward(context, tokens, {.mask = attention_mask(starts), .cache = nullptr});
  return out.outputs.value().to_vector<double>();
}

}  // namespace

TEST_CASE("a padded batch is divided once by its number of targets, however it is cut") {
  Batch batch = random_batch(5, 7);
  batch.padded = true;
  const int64_t kept[] = {7, 1, 4, 7, 2};  // targets of each row: micro-batches have very different numbers
  for (int64_t row = 0; row < 5; ++row)
    for (int64_t t = kept[row]; t < 7; ++t) batch.targets[static_cast<size_t>(row * 7 + t)] = Batch::kIgnoredTarget;
  REQUIRE(batch.real_targets() == 21);
  const Trained whole = step_on(batch, 0);
  for (const int64_t micro : {1, 2, 3}) {
    CAPTURE(micro);
    expect_close(step_on(batch, micro), whole);
  }
  // The mean over the targets: that of each row alone, weighted by its number of them.
  double sum = 0;
  for (int64_t row = 0; row < 5; ++row) {
    Batch alone{.sequences = 1, .seq_len = 7, .first_sample = 100 + static_cast<uint64_t>(row)};
    const auto begin = static_cast<ptrdiff_t>(7 * row);
    alone.tokens.assign(batch.tokens.begin() + begin, batch.tokens.begin() + begin + 7);
    alone.targets.assign(batch.targets.begin() + begin, batch.targets.begin() + begin + 7);
    alone.padded = true;
    sum += step_on(alone, 0).result.loss * static_cast<double>(kept[row]);
  }
  CHECK(whole.result.loss == doctest::Approx(sum / 21).epsilon(1e-12));
}

TEST_CASE("a batch that could be padded and is not makes the step of one that could not") {
  Batch batch = random_batch(4, 7);
  const Trained plain = step_on(batch, 2);
  batch.padded = true;
  expect_close(step_on(batch, 2), plain);
}

TEST_CASE("the validation loss of padded documents is the mean over their targets") {
  const auto data = TokenDataset::open(TinyData::get().folder() / "shards/validation");
  const Loader loader(data, {.seq_len = 8, .order = SampleOrder::sequential, .packing = Packing::document});
  ModelConfig config = ragged_model(4);
  config.n_tokens = data->vocab_size();
  MoeutLm model(config, 1, {.dtype = DType::f64});
  // With a head of zeros every token has the probability 1 / V, whatever the padding.
  for (Parameter* p : {&model.lm_head.weight, &model.lm_head.bias})
    p->value.copy_from(Tensor::zeros(p->value.shape(), DType::f64, Device::cpu()));
  const auto loss = validation_loss(model, loader, {.batch_size = 3});
  CHECK(loss.value() == doctest::Approx(std::log(static_cast<double>(config.n_tokens))).epsilon(1e-12));
}

TEST_CASE("with a document mask no document's logits depend on another's tokens") {
  MoeutLm model(ragged_model(4), 1, {.dtype = DType::f64});
  Batch batch = random_batch(2, 9);
  // Row 0: a document up to position 3, another from there on. Row 1: three documents, one of them of one token.
  batch.document_starts = {0, 0, 0, 0, 4, 4, 4, 4, 4, 0, 0, 2, 3, 3, 3, 3, 3, 3};
  const auto before = logits_of(model, batch);
  Batch other = batch;
  for (const size_t i : {0, 1, 2, 3, 9, 10, 11}) other.tokens[i] = (batch.tokens[i] + 5) % 37;
  const auto after = logits_of(model, other);
  const size_t vocabulary = before.size() / 18;
  for (size_t i = 0; i < before.size(); ++i) {
    const size_t position = i / vocabulary;
    const bool untouched = (position >= 4 && position < 9) || position >= 12;
    // The bound; keys that are masked contribute exactly nothing.
    if (untouched) REQUIRE(after[i] == doctest::Approx(before[i]).epsilon(1e-12));
  }
  CHECK(after != before);
}

TEST_CASE("training sees the mask as evaluation does, in micro-batches, too") {
  Batch batch = random_batch(3, 7);
  const Trained causal = step_on(batch, 0);
  batch.document_starts.assign(21, 0);
  expect_close(step_on(batch, 2), causal);  // one document a row: causal
  for (size_t row = 0; row < 3; ++row)
    for (size_t t = 3; t < 7; ++t) batch.document_starts[7 * row + t] = 3;
  const Trained masked = step_on(batch, 0);
  CHECK(masked.result.loss != causal.result.loss);
  expect_close(step_on(batch, 2), masked);
}
