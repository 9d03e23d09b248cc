// Token embedding with its table.
#pragma once

#include <cmath>

#include "autograd/ops/embedding.h"
#include "layers/init.h"
#include "layers/module.h"

namespace moeut {

/// weight: (V, D), initialised normal(0, 1/√D); not tied to the head.
class Embedding : public Module {
 public:
  Embedding(const std::string& name, int64_t vocabulary, int64_t width, uint64_t seed, const ModuleOptions& options)
      : weight(make_parameter(name + ".weight", {vocabulary, width}, {options.dtype, options.device})) {
    init_normal(weight, 1 / std::sqrt(static_cast<double>(width)), seed);
  }
  Variable forward(Tape& tape, const Tensor& tokens) { return ops::embedding(tape, tokens, tape.parameter(weight)); }
  void visit_parameters(const ParameterVisitor& visit) override { visit(weight); }

  Parameter weight;
};

}  // namespace moeut
