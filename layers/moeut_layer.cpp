#include "layers/moeut_layer.h"

#include "layers/switch_head.h"

namespace moeut {

MoeutLayer::MoeutLayer(const ModelConfig& c, const std::string& name, uint64_t seed, const ModuleOptions& options)
    : attention(make_attention(c, name + ".attention", seed, options)),
      ffn(c, name + ".ffn", seed, options),
      ln1(name + ".ln1", c.d_model, options),
      ln2(name + ".ln2", c.d_model, options),
      dropout_(c.dropout) {}

ResidualStream MoeutLayer::forward(ForwardContext& context, const ResidualStream& stream, const AttentionMask& mask,
                                   LayerCache* cache) {
  const auto [x, narrow_x, n] = ln1.forward(context.tape, stream);
  const Variable attended = attention->forward(context, {n, n, narrow_x}, mask, cache);
  const auto [h, narrow_h, r] = ln2.forward(context.tape, {x, context.dropout(attended, dropout_)});
  return {h, ffn.forward(context, narrow_h, r)};
}

void MoeutLayer::visit_parameters(const ParameterVisitor& visit) {
  attention->visit_parameters(visit);
  ffn.visit_parameters(visit);
  ln1.visit_parameters(visit);
  ln2.visit_parameters(visit);
}

}  // namespace moeut
