#include "layers/sigma_moe.h"

#include <cmath>

#include "autograd/ops/expert_ffn.h"
#include "autograd/ops/linear.h"
#include "layers/init.h"

namespace moeut {

SigmaMoe::SigmaMoe(const ModelConfig& c, const std::string& name, uint64_t seed, const ModuleOptions& options)
    : keys(make_parameter(name + ".keys", {c.ff_n_experts, c.d_model, c.ff_expert_size}, options)),
      values(make_parameter(name + ".values", {c.ff_n_experts, c.ff_expert_size, c.d_model}, options)),
      expert_sel(make_parameter(name + ".expert_sel", {c.ff_n_experts, c.d_model}, options)),
      k_(c.ff_k),
      expert_dropout_(c.ff_expert_dropout),
      entropy_reg_(c.entropy_reg) {
  const double a = std::sqrt(2.0 / static_cast<double>(c.n_layers));
  const double in_std = a / std::sqrt(static_cast<double>(c.d_model));
  init_normal(keys, in_std, seed);
  init_normal(values, a / std::sqrt(static_cast<double>(c.ff_n_experts * c.ff_expert_size)), seed);
  init_normal(expert_sel, in_std, seed);
  equalize_row_norms(expert_sel);
}

Variable SigmaMoe::forward(ForwardContext& context, const Variable& input, const Variable& router_input) {
  Tape& tape = context.tape;
  const Variable logits = ops::linear(tape, router_input, tape.parameter(expert_sel), {}, ops::LinearOutput::wide);
  const ops::Routing routing = context.route(expert_sel.name, logits, 1, k_, expert_dropout_, entropy_reg_);
  return ops::expert_ffn(tape, input, tape.parameter(keys), tape.parameter(values), routing);
}

void SigmaMoe::visit_parameters(const ParameterVisitor& visit) {
  visit(keys);
  visit(values);
  visit(expert_sel);
}

}  // namespace moeut
