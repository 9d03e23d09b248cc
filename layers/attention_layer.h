// The seam for attention layers: SwitchHead with RoPE is the default, a user may pass another class
// (ModelConfig::attention).
#pragma once

#include "autograd/ops/attention.h"
#include "layers/forward_context.h"
#include "layers/kv_cache.h"
#include "layers/model_config.h"
#include "layers/module.h"

namespace moeut {

using AttentionMask = ops::AttentionMask;

class AttentionLayer : public Module {
 public:
  /// q_source and k_source are normalised, v_source is the raw residual stream; all (B, T, D) in the compute type. The
  /// result has its wide type, that of the residual stream.
  struct Inputs {
    Variable q_source, k_source, v_source;
  };
  /// `mask` covers the cached keys too. `cache`, if any, holds this application's past and takes the new keys and
  /// values.
  virtual Variable forward(ForwardContext& context, const Inputs& inputs, const AttentionMask& mask,
                           LayerCache* cache) = 0;
};

}  // namespace moeut
