// The language model: embedding, MoEUT, final norm, head.
#pragma once

#include <optional>

#include "layers/embedding.h"
#include "layers/layer_norm.h"
#include "layers/linear.h"
#include "layers/moeut.h"

namespace moeut {

/// logits = lm_head(LN_out(body(embedding[tokens]))). Head and embedding are not tied.
class MoeutLm : public Module {
 public:
  /// Initialises all parameters from `seed`. Throws ConfigError naming every invalid argument.
  explicit MoeutLm(const ModelConfig& config, uint64_t seed = 0, const ModuleOptions& options = {});

  struct Options {
    std::optional<AttentionMask> mask;  ///< replaces the causal default
    std::shared_ptr<KvCache> cache;     ///< tokens continue what is in it
  };
  /// tokens: int32 (B, T)   outputs: logits (B, T, V).
  MoeutOutput forward(ForwardContext& context, const Tensor& tokens, const Options& options);
  MoeutOutput forward(ForwardContext& context, const Tensor& tokens) { return forward(context, tokens, Options()); }

  /// What training minimises; one element each.
  struct Losses {
    Variable ce_loss, reg_loss;
  };
  /// ce_loss: scale · Σ cross-entropy of `targets` under the logits, which are never there all at once.
  /// tokens, targets: int32 (B, T); a target below 0 is ignored.   mask replaces the causal default.
  Losses losses(ForwardContext& context, const Tensor& tokens, const Tensor& targets,
                const ops::LinearCrossEntropyOptions& options, const std::optional<AttentionMask>& mask = {});
  void visit_parameters(const ParameterVisitor& visit) override;

  std::shared_ptr<KvCache> new_cache() const { return transformer.new_cache(); }
  const ModelConfig& config() const { return transformer.config(); }

  Embedding embedding;
  Moeut transformer;
  LayerNorm out_norm;
  Linear lm_head;

 private:
  /// The same with what the head reads as outputs: (B, T, D), normalised.
  MoeutOutput below_head(ForwardContext& context, const Tensor& tokens, const Options& options);
};

}  // namespace moeut
