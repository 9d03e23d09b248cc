// The constructor's arguments of the model, in the alphabet of the paper.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace moeut {

class AttentionLayer;
struct ModelConfig;
struct ModuleOptions;

/// Makes the attention layer whose parameters are called name + ".…", initialised from `seed`; null in a ModelConfig
/// means SwitchHead with RoPE.
using AttentionFactory = std::function<std::unique_ptr<AttentionLayer>(const ModelConfig&, const std::string& name,
                                                                       uint64_t seed, const ModuleOptions&)>;

struct ModelConfig {
  int64_t n_tokens = 0;       ///< V, vocabulary; not used by the body alone
  int64_t d_model = 0;        ///< D
  int64_t n_layers = 0;       ///< L, applications; a multiple of group_size
  int64_t n_heads = 0;        ///< H
  int64_t ff_n_experts = 0;   ///< E
  int64_t att_n_experts = 0;  ///< Ea; 1: dense value and output projections with an output gate
  int64_t d_head = 0;         ///< P; 0: d_model / n_heads
  int64_t group_size = 2;     ///< G, layers that are distinct
  int64_t ff_k = 8;           ///< K
  int64_t att_k = 2;          ///< Ka
  double ff_expert_dropout = 0;
  double att_expert_dropout = 0;
  int64_t ff_expert_size = 128;  ///< S
  double dropout = 0;
  double entropy_reg = 0.01;
  double att_entropy_reg = 0.001;
  double rotate_fraction = 0.5;  ///< share of each head's dims that rotates
  double rope_base = 10000;
  AttentionFactory attention;

  int64_t repeats() const { return n_layers / group_size; }
  int64_t head_dim() const { return d_head > 0 ? d_head : d_model / n_heads; }
  /// Nr = 2 · floor(P · rotate_fraction / 2).
  int64_t n_rotate() const;
  /// Parameters of the language model; the body's without embedding, norm and head.
  int64_t parameter_count() const;

  /// Throws ConfigError listing every invalid field with its value and what is allowed.
  void validate(bool language_model = true) const;
};

/// The paper's profiles: 44M, 126M, 244M, 318M, 727M, 1B, with n_tokens 8000. (727M has d_model 1280, as the paper's
/// own sweep: the published profile's 1024 gives 582M parameters.) Throws ConfigError naming the six for any other
/// name.
ModelConfig profile(std::string_view name);
const std::vector<std::string>& profile_names();

}  // namespace moeut
