// One training step of a small model in float64, and what it leaves behind.
#pragma once

#include <vector>

#include "layers/moeut_lm.h"
#include "tests/testing.h"
#include "trainer/train_step.h"

namespace moeut::testing {

/// Random tokens and targets below `vocabulary`; the batch begins at sample 100.
inline Batch random_batch(int64_t sequences, int64_t seq_len, int64_t vocabulary) {
  Batch batch{.sequences = sequences, .seq_len = seq_len, .first_sample = 100};
  Rng rng(5, 0);
  for (int64_t i = 0; i < sequences * seq_len; ++i) {
    batch.tokens.push_back(static_cast<int32_t>(rng.uniform() * static_cast<double>(vocabulary)));
    batch.targets.push_back(static_cast<int32_t>(rng.uniform() * static_cast<double>(vocabulary)));
  }
  return batch;
}

struct Trained {
  StepResult result;
  std::vector<double> values;  ///< of all parameters
};

inline Trained trained_on(const ModelConfig& config, const Batch& batch, int64_t micro_batch_size,
                          bool recompute = false) {
  MoeutLm model(config, 1, {.dtype = DType::f64});
  AdamW optimizer({.eps = 1e-3}, model.parameters());
  Trained trained;
  trained.result = train_step(model, optimizer, batch,
                              {.lr = 0.01, .seed = 3, .micro_batch_size = micro_batch_size, .recompute = recompute});
  model.visit_parameters([&](Parameter& p) {
    const auto v = p.value.to_vector<double>();
    trained.values.insert(trained.values.end(), v.begin(), v.end());
  });
  return trained;
}

}  // namespace moeut::testing
