// The σ-MoE feed-forward layer.   [Csordás et al. 2023, 2024]
#pragma once

#include "layers/forward_context.h"
#include "layers/model_config.h"
#include "layers/module.h"

namespace moeut {

/// y = Σ_{e in topK} p_e · relu(x · keys[e]) · values[e], p = sigmoid(r · expert_selᵀ): sigmoid gates, not normalised
/// over K; no bias, no capacity limit.
class SigmaMoe : public Module {
 public:
  SigmaMoe(const ModelConfig& config, const std::string& name, uint64_t seed, const ModuleOptions& options);

  /// input, router_input, y: (B, T, D).
  Variable forward(ForwardContext& context, const Variable& input, const Variable& router_input);
  void visit_parameters(const ParameterVisitor& visit) override;

  Parameter keys;        ///< (E, D, S)
  Parameter values;      ///< (E, S, D)
  Parameter expert_sel;  ///< (E, D)

 private:
  int64_t k_;
  double expert_dropout_, entropy_reg_;
};

}  // namespace moeut
