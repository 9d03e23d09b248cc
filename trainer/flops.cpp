#include "trainer/flops.h"

namespace moeut {

ForwardMacs forward_macs(const ModelConfig& model, int64_t seq_len) {
  const auto real = [](int64_t value) { return static_cast<double>(value); };
  const bool dense = model.att_n_experts == 1;
  const double layers = real(model.n_layers), d = real(model.d_model), heads = real(model.n_heads);
  const double heads_width = heads * real(model.head_dim());
  return {.experts = layers * 2 * real(model.ff_k * model.ff_expert_size) * d,
          .router = layers * real(model.ff_n_experts) * d,
          .attention_experts = layers * 2 * heads_width * real(dense ? 1 : model.att_k) * d,
          .attention_routers = layers * heads * (dense ? 1 : 2 * real(model.att_n_experts)) * d,
          .queries_and_keys = layers * 2 * d * heads_width,
          .attention = layers * 2 * heads_width * real(seq_len + 1) / 2,
          .head = real(model.n_tokens) * d};
}

double train_flops_per_token(const ModelConfig& model, int64_t seq_len) {
  return 3 * 2 * forward_macs(model, seq_len).total();
}

}  // namespace moeut
