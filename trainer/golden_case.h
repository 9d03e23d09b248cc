// Golden files: inputs, parameters and what must come out, of shapes that the file decides.   [moeut.md, Golden files]
#pragma once

#include <filesystem>
#include <map>
#include <variant>
#include <vector>

#include "layers/attention_layer.h"
#include "trainer/golden_config.h"

namespace moeut {

using NamedTensors = std::map<std::string, Tensor>;

/// Format moeut-golden/1: one forward and, if there are gradients, backward pass. Floating tensors are f64 on the CPU,
/// ids i32, masks u8; all shapes have been checked against each other and the model.
struct GoldenCase {
  enum class Kind { lm, body };

  Kind kind = Kind::lm;
  ModelConfig config;
  bool train = false;       ///< training mode: with the regulariser
  AttentionMask mask;       ///< causal for a language model without explicit masks
  Tensor tokens, targets;   ///< (B, T) each; undefined for a body
  Tensor x, upstream;       ///< (B, T, D) each; undefined for a language model
  NamedTensors parameters;  ///< every parameter of the model
  Tensor outputs;           ///< (B, T, V), or (B, T, D) of a body
  double reg_loss = 0;      ///< 0 outside training
  double ce_loss = 0;       ///< mean over all targets, nats; of a body: Σ outputs · upstream
  NamedTensors gradients;   ///< of ce_loss + reg_loss for every parameter; empty if the file has none
  Tensor input_gradient;    ///< of x; undefined if the file has none
};

/// Format moeut-golden-trajectory/1: a training run of a language model with a causal mask.
struct GoldenTrajectory {
  ModelConfig config;
  GoldenOptimizer training;
  NamedTensors parameters;  ///< before the first step
  Tensor tokens;            ///< i32 (steps, B, T+1): inputs are all but the last, targets all but the first
  std::vector<double> ce_loss, reg_loss, grad_norm, lr;  ///< of each step; grad_norm before clipping
  NamedTensors final_parameters;                         ///< some of them, after the last step

  int64_t steps() const { return tokens.shape()[0]; }
};

using GoldenFile = std::variant<GoldenCase, GoldenTrajectory>;

/// Reads and checks a file of either format, first in a limited child process, since HDF5 is not built for hostile
/// files. Throws IoError naming the file and the attribute or dataset that is missing, damaged or does not fit.
GoldenFile read_golden(const std::filesystem::path& path);

}  // namespace moeut
