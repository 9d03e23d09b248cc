// MoEUT, the body: a group of layers, repeated. The only place that knows layers are shared.   [Csordás et al. 2024]
#pragma once

#include <memory>
#include <vector>

#include "layers/kv_cache.h"
#include "layers/moeut_layer.h"

namespace moeut {

/// What a forward pass returns.
struct MoeutOutput {
  Variable outputs;                ///< body: (B, T, D); language model: logits (B, T, V)
  Variable reg_loss;               ///< one element; 0 outside training
  std::shared_ptr<KvCache> cache;  ///< the cache given, with this chunk added; null without one
};

class Moeut : public Module {
 public:
  /// Parameters are named `prefix`layers.{g}.…  Throws ConfigError naming every invalid argument.
  Moeut(const ModelConfig& config, uint64_t seed, const ModuleOptions& options = {}, const std::string& prefix = "");

  /// x: (B, T, D). With a cache x continues what is in it, and the masks cover T_cached + T keys; a position mask that
  /// is narrower is extended on the left with visible columns; first_key counts keys from the first cached one. Throws
  /// ShapeError for shapes that do not fit.
  MoeutOutput forward(ForwardContext& context, const Variable& x, const AttentionMask& mask,
                      std::shared_ptr<KvCache> cache = nullptr);
  /// The same before the last addition, which a norm may make.
  struct Result {
    ResidualStream stream;
    Variable reg_loss;
    std::shared_ptr<KvCache> cache;
  };
  Result run(ForwardContext& context, const Variable& x, const AttentionMask& mask,
             std::shared_ptr<KvCache> cache = nullptr);
  void visit_parameters(const ParameterVisitor& visit) override;

  /// An empty cache for all L applications.
  std::shared_ptr<KvCache> new_cache() const { return std::make_shared<KvCache>(config_.n_layers); }
  const ModelConfig& config() const { return config_; }

  std::vector<std::unique_ptr<MoeutLayer>> layers;

 private:
  Variable regulariser(ForwardContext& context, const Variable& x);

  ModelConfig config_;
};

}  // namespace moeut
