// A model small enough for float64 tests of all its parts.
#pragma once

#include <functional>

#include "autograd/ops/cross_entropy.h"
#include "layers/moeut_lm.h"
#include "tests/testing.h"

namespace moeut::testing {

inline ModelConfig tiny_config() {
  ModelConfig c;
  c.n_tokens = 13;
  c.d_model = 8;
  c.n_layers = 4;
  c.n_heads = 2;
  c.ff_n_experts = 5;
  c.att_n_experts = 3;
  c.d_head = 4;
  c.ff_k = 2;
  c.att_k = 2;
  c.ff_expert_size = 4;
  return c;
}

/// The configuration with a change.
inline ModelConfig tiny_config(const std::function<void(ModelConfig&)>& change) {
  ModelConfig c = tiny_config();
  change(c);
  return c;
}

inline constexpr ModuleOptions kInF64{.dtype = DType::f64};

/// Logits in evaluation mode.
inline Tensor logits_of(MoeutLm& model, const Tensor& tokens, const MoeutLm::Options& options = {}) {
  Tape tape(Tape::Recording::off);
  ForwardContext context(tape);
  return model.forward(context, tokens, options).outputs.value();
}

inline Tensor mask_from(const std::vector<uint8_t>& values, const Shape& shape) {
  return Tensor::from(values, shape);
}

}  // namespace moeut::testing
