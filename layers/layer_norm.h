// Layer normalisation with its parameters.
#pragma once

#include "autograd/ops/layer_norm.h"
#include "layers/init.h"
#include "layers/module.h"
#include "layers/residual_stream.h"

namespace moeut {

/// Over the last dimension, eps 1e-5; the result has the compute type; initialised to weight 1, bias 0.
class LayerNorm : public Module {
 public:
  LayerNorm(const std::string& name, int64_t width, const ModuleOptions& options)
      : weight(make_parameter(name + ".weight", {width}, options, false)),
        bias(make_parameter(name + ".bias", {width}, options, false)),
        out_(options.compute_type()) {
    init_constant(weight, 1);
    init_constant(bias, 0);
  }
  Variable forward(Tape& tape, const Variable& x) {
    return ops::layer_norm(tape, x, tape.parameter(weight), tape.parameter(bias), {.out = out_});
  }
  /// The stream's sum h, the copy of h in the compute type, and the norm of h.
  ops::NormedSum forward(Tape& tape, const ResidualStream& stream) {
    return ops::layer_norm_of_sum(tape, stream.x, stream.branch, tape.parameter(weight), tape.parameter(bias),
                                  {.out = out_});
  }
  void visit_parameters(const ParameterVisitor& visit) override {
    visit(weight);
    visit(bias);
  }

  Parameter weight, bias;

 private:
  DType out_;
};

}  // namespace moeut
