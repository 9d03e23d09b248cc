// What both attention layers share: q and k projections, RoPE, scaling, the cache, and the softmax core.
#pragma once

#include "layers/attention_layer.h"
#include "layers/linear.h"

namespace moeut {

/// q = √c · rotate(q_source Wqᵀ), k = √c · rotate(k_source Wkᵀ), c = 1/√P; softmax(q kᵀ + mask) v per head. No biases.
class RopeAttention : public AttentionLayer {
 public:
  RopeAttention(const ModelConfig& config, const std::string& name, uint64_t seed, const ModuleOptions& options);

  Linear q, k;  ///< weights (H·P, D)

 protected:
  /// The heads' results (B, T, H·P) for values v (B, T, H·P).
  Variable attend(Tape& tape, const Inputs& inputs, const Variable& v, const AttentionMask& mask, LayerCache* cache);

  int64_t heads_, head_dim_, n_rotate_;
  double rope_base_;
};

}  // namespace moeut
