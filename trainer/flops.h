// Floating-point operations of a training step, counted by formula.
#pragma once

#include <cstdint>

#include "layers/model_config.h"

namespace moeut {

/// Multiply-adds of one token's forward pass through the whole model, on average over a sequence of T tokens. Only
/// matrix products count; a causal score that is masked away does not (half of them).   [../shared/tools/roofline.py]
struct ForwardMacs {
  double experts = 0;            ///< L · 2·K·S·D
  double router = 0;             ///< L · E·D
  double attention_experts = 0;  ///< L · 2·H·Ka·P·D; the dense layer's value and output projections with Ka = 1
  double attention_routers = 0;  ///< L · 2·H·Ea·D; of the dense layer its output gate alone: L · H·D
  double queries_and_keys = 0;   ///< L · 2·D·H·P
  double attention = 0;          ///< L · 2·H·P·(T + 1)/2
  double head = 0;               ///< V·D

  double total() const {
    return experts + router + attention_experts + attention_routers + queries_and_keys + attention + head;
  }
};

ForwardMacs forward_macs(const ModelConfig& model, int64_t seq_len);

/// 3 · 2 · MACs: the backward pass computes two products for each one of the forward pass, a multiply-add is two
/// operations. Optimizer and elementwise work do not count.
double train_flops_per_token(const ModelConfig& model, int64_t seq_len);

}  // namespace moeut
