#include "layers/moeut_layer.h"

#include "autograd/ops/add.h"
#include "autograd/ops/cast.h"
#include "layers/switch_head.h"

namespace moeut {

MoeutLayer::MoeutLayer(const ModelConfig& c, const std::string& name, uint64_t seed, const ModuleOptions& options)
    : attention(make_attention(c, name + ".attention", seed, options)),
      ffn(c, name + ".ffn", seed, options),
      ln1(name + ".ln1", c.d_model, options),
      ln2(name + ".ln2", c.d_model, options),
      dropout_(c.dropout),
      compute_(options.compute_type()) {}

Variable MoeutLayer::forward(ForwardContext& context, const Variable& x, const AttentionMask& mask, LayerCache* cache) {
  Tape& tape = context.tape;
  const Variable n = ln1.forward(tape, x);
  const Variable attended = attention->forward(context, {n, n, ops::cast(tape, x, compute_)}, mask, cache);
  const Variable h = ops::add(tape, x, context.dropout(attended, dropout_));
  return ops::add(tape, h, ffn.forward(context, ops::cast(tape, h, compute_), ln2.forward(tape, h)));
}

void MoeutLayer::visit_parameters(const ParameterVisitor& visit) {
  attention->visit_parameters(visit);
  ffn.visit_parameters(visit);
  ln1.visit_parameters(visit);
  ln2.visit_parameters(visit);
}

}  // namespace moeut
