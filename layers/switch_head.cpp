#include "layers/switch_head.h"

#include <cmath>

#include "autograd/ops/expert_output.h"
#include "autograd/ops/expert_value.h"
#include "autograd/ops/head_gate.h"
#include "autograd/ops/linear.h"
#include "layers/init.h"

namespace moeut {

namespace {

/// a / √fan_in with a = √(2 / (R·G)).
double init_std(const ModelConfig& c, int64_t fan_in) {
  return std::sqrt(2.0 / static_cast<double>(c.n_layers) / static_cast<double>(fan_in));
}

}  // namespace

SwitchHead::SwitchHead(const ModelConfig& c, const std::string& name, uint64_t seed, const ModuleOptions& options)
    : RopeAttention(c, name, seed, options),
      v(make_parameter(name + ".v", {c.n_heads * c.att_n_experts, c.d_model, c.head_dim()}, options)),
      o(make_parameter(name + ".o", {c.n_heads * c.att_n_experts, c.head_dim(), c.d_model}, options)),
      sel_v(make_parameter(name + ".sel_v", {c.n_heads * c.att_n_experts, c.d_model}, options)),
      sel_o(make_parameter(name + ".sel_o", {c.n_heads * c.att_n_experts, c.d_model}, options)),
      att_k_(c.att_k),
      expert_dropout_(c.att_expert_dropout),
      entropy_reg_(c.att_entropy_reg) {
  init_normal(v, init_std(c, c.d_model), seed);
  init_normal(o, init_std(c, c.n_heads * c.head_dim()), seed);
  for (Parameter* router : {&sel_v, &sel_o}) {
    init_normal(*router, init_std(c, c.d_model), seed);
    normalize_rows_keep_row_std(*router);
  }
}

Variable SwitchHead::forward(ForwardContext& context, const Inputs& in, const AttentionMask& mask, LayerCache* cache) {
  Tape& tape = context.tape;
  const auto choose = [&](Parameter& router, const Variable& source) {
    const Variable logits = ops::linear(tape, source, tape.parameter(router), {}, ops::LinearOutput::wide);
    return context.route(router.name, logits, heads_, att_k_, expert_dropout_, entropy_reg_);
  };
  const ops::Routing value_experts = choose(sel_v, in.k_source);
  const ops::Routing output_experts = choose(sel_o, in.q_source);
  const Variable values = ops::expert_value(tape, in.v_source, tape.parameter(v), heads_, value_experts);
  const Variable attended = attend(tape, in, values, mask, cache);
  return ops::expert_output(tape, attended, tape.parameter(o), heads_, output_experts);
}

void SwitchHead::visit_parameters(const ParameterVisitor& visit) {
  q.visit_parameters(visit);
  k.visit_parameters(visit);
  for (Parameter* p : {&v, &o, &sel_v, &sel_o}) visit(*p);
}

DenseAttention::DenseAttention(const ModelConfig& c, const std::string& name, uint64_t seed,
                               const ModuleOptions& options)
    : RopeAttention(c, name, seed, options),
      v(make_parameter(name + ".v", {c.n_heads * c.head_dim(), c.d_model}, options)),
      o(make_parameter(name + ".o", {c.d_model, c.n_heads * c.head_dim()}, options)),
      sel_o(make_parameter(name + ".sel_o", {c.n_heads, c.d_model}, options)) {
  init_normal(v, init_std(c, c.d_model), seed);
  init_normal(o, init_std(c, c.n_heads * c.head_dim()), seed);
  init_normal(sel_o, init_std(c, c.d_model), seed);
  normalize_rows_keep_row_std(sel_o);
}

Variable DenseAttention::forward(ForwardContext& context, const Inputs& in, const AttentionMask& mask,
                                 LayerCache* cache) {
  Tape& tape = context.tape;
  const Variable values = ops::linear(tape, in.v_source, tape.parameter(v));
  const Variable attended = attend(tape, in, values, mask, cache);
  const Variable gate = ops::linear(tape, in.q_source, tape.parameter(sel_o), {}, ops::LinearOutput::wide);
  return ops::linear(tape, ops::head_gate(tape, attended, gate), tape.parameter(o), {}, ops::LinearOutput::wide);
}

void DenseAttention::visit_parameters(const ParameterVisitor& visit) {
  q.visit_parameters(visit);
  k.visit_parameters(visit);
  for (Parameter* p : {&v, &o, &sel_o}) visit(*p);
}

std::unique_ptr<AttentionLayer> make_attention(const ModelConfig& c, const std::string& name, uint64_t seed,
                                               const ModuleOptions& options) {
  if (c.attention) return c.attention(c, name, seed, options);
  if (c.att_n_experts == 1) return std::make_unique<DenseAttention>(c, name, seed, options);
  return std::make_unique<SwitchHead>(c, name, seed, options);
}

}  // namespace moeut
