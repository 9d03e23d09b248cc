// SwitchHead: attention whose value and output projections are mixtures of experts.   [Csordás et al. 2024]
#pragma once

#include "layers/rope_attention.h"

namespace moeut {

/// Per head h: v[h] = Σ_{e in topKa} p_e · (v_source · v[h·Ea+e]), p from sel_v on k_source; result Σ_h Σ_{e in topKa}
/// p_e · (att[h] · o[h·Ea+e]), p from sel_o on q_source.
class SwitchHead : public RopeAttention {
 public:
  SwitchHead(const ModelConfig& config, const std::string& name, uint64_t seed, const ModuleOptions& options);
  Variable forward(ForwardContext& context, const Inputs& inputs, const AttentionMask& mask,
                   LayerCache* cache) override;
  void visit_parameters(const ParameterVisitor& visit) override;

  Parameter v;      ///< (H·Ea, D, P)
  Parameter o;      ///< (H·Ea, P, D)
  Parameter sel_v;  ///< (H·Ea, D)
  Parameter sel_o;  ///< (H·Ea, D)

 private:
  int64_t att_k_;
  double expert_dropout_, entropy_reg_;
};

/// The same with one expert a head, as dense projections: v = v_source Vᵀ, result concat_h(sigmoid(q_source · sel_o[h])
/// · att[h]) Oᵀ. No routing and no regulariser.
class DenseAttention : public RopeAttention {
 public:
  DenseAttention(const ModelConfig& config, const std::string& name, uint64_t seed, const ModuleOptions& options);
  Variable forward(ForwardContext& context, const Inputs& inputs, const AttentionMask& mask,
                   LayerCache* cache) override;
  void visit_parameters(const ParameterVisitor& visit) override;

  Parameter v;      ///< (H·P, D)
  Parameter o;      ///< (D, H·P)
  Parameter sel_o;  ///< (H, D)
};

/// The layer that `config` asks for: its factory's, else SwitchHead, or DenseAttention for att_n_experts = 1.
std::unique_ptr<AttentionLayer> make_attention(const ModelConfig& config, const std::string& name, uint64_t seed,
                                               const ModuleOptions& options);

}  // namespace moeut
