// One layer of the group: attention and σ-MoE with "peri" norm placement.
#pragma once

#include "layers/attention_layer.h"
#include "layers/layer_norm.h"
#include "layers/sigma_moe.h"

namespace moeut {

/// n = LN1(x);  x = x + dropout(Attention(n, n, x));  x = x + SigmaMoE(x, LN2(x)).
/// Normalised input goes only to the routers and to q and k; values and experts read the raw residual stream.
class MoeutLayer : public Module {
 public:
  MoeutLayer(const ModelConfig& config, const std::string& name, uint64_t seed, const ModuleOptions& options);
  /// stream and result: (B, T, D); the last addition is left to the norm that follows.
  ResidualStream forward(ForwardContext& context, const ResidualStream& stream, const AttentionMask& mask,
                         LayerCache* cache);
  void visit_parameters(const ParameterVisitor& visit) override;

  std::unique_ptr<AttentionLayer> attention;
  SigmaMoe ffn;
  LayerNorm ln1, ln2;

 private:
  double dropout_;
};

}  // namespace moeut
