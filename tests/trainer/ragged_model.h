// A model for tests of whole steps.
#pragma once

#include "layers/model_config.h"

namespace moeut::testing {

/// Every kind of layer and of dropout, and no width that fits anything.
inline ModelConfig ragged_model(int64_t att_n_experts) {
  return {.n_tokens = 37,
          .d_model = 22,
          .n_layers = 4,
          .n_heads = 3,
          .ff_n_experts = 9,
          .att_n_experts = att_n_experts,
          .d_head = 7,
          .ff_k = 2,
          .att_k = 1,
          .ff_expert_dropout = 0.2,
          .att_expert_dropout = 0.2,
          .ff_expert_size = 13,
          .dropout = 0.2};
}

}  // namespace moeut::testing
