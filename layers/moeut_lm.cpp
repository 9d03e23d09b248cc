#include "layers/moeut_lm.h"

#include <cmath>

#include "core/check.h"
#include "layers/init.h"

namespace moeut {

namespace {
const ModelConfig& validated(const ModelConfig& config) {
  config.validate(true);
  return config;
}
}  // namespace

MoeutLm::MoeutLm(const ModelConfig& c, uint64_t seed, const ModuleOptions& options)
    : embedding("embedding", validated(c).n_tokens, c.d_model, seed, options),
      transformer(c, seed, options, "transformer."),
      out_norm("out_norm", c.d_model, options),
      lm_head("lm_head", c.d_model, c.n_tokens, true, options) {
  const double bound = 1 / std::sqrt(static_cast<double>(c.d_model));
  init_uniform(lm_head.weight, bound, seed);
  init_uniform(lm_head.bias, bound, seed);
  refresh_narrow();
}

MoeutOutput MoeutLm::below_head(ForwardContext& context, const Tensor& tokens, const Options& options) {
  require<ShapeError>(tokens.shape().rank() == 2, "moeut_lm: tokens must be (B, T), not {}", tokens.shape().str());
  const AttentionMask mask = options.mask ? *options.mask : AttentionMask{.causal = true};
  const Variable x = embedding.forward(context.tape, tokens);
  Moeut::Result body = transformer.run(context, x, mask, options.cache);
  return {out_norm.forward(context.tape, body.stream).y, std::move(body.reg_loss), std::move(body.cache)};
}

MoeutOutput MoeutLm::forward(ForwardContext& context, const Tensor& tokens, const Options& options) {
  MoeutOutput out = below_head(context, tokens, options);
  out.outputs = lm_head.forward(context.tape, out.outputs);
  return out;
}

MoeutLm::Losses MoeutLm::losses(ForwardContext& context, const Tensor& tokens, const Tensor& targets,
                                const ops::LinearCrossEntropyOptions& options,
                                const std::optional<AttentionMask>& mask) {
  const MoeutOutput out = below_head(context, tokens, {.mask = mask, .cache = nullptr});
  return {lm_head.cross_entropy(context.tape, out.outputs, targets, options).loss, out.reg_loss};
}

void MoeutLm::visit_parameters(const ParameterVisitor& visit) {
  embedding.visit_parameters(visit);
  transformer.visit_parameters(visit);
  out_norm.visit_parameters(visit);
  lm_head.visit_parameters(visit);
}

}  // namespace moeut
