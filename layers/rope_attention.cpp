#include "layers/rope_attention.h"

#include <cmath>

#include "autograd/ops/rope.h"
#include "layers/init.h"

namespace moeut {

RopeAttention::RopeAttention(const ModelConfig& c, const std::string& name, uint64_t seed, const ModuleOptions& options)
    : q(name + ".q", c.d_model, c.n_heads * c.head_dim(), false, options),
      k(name + ".k", c.d_model, c.n_heads * c.head_dim(), false, options),
      heads_(c.n_heads),
      head_dim_(c.head_dim()),
      n_rotate_(c.n_rotate()),
      rope_base_(c.rope_base) {
  const double std = std::sqrt(2.0 / static_cast<double>(c.n_layers) / static_cast<double>(c.d_model));
  init_normal(q.weight, std, seed);
  init_normal(k.weight, std, seed);
}

Variable RopeAttention::attend(Tape& tape, const Inputs& inputs, const Variable& v, const AttentionMask& mask,
                               LayerCache* cache) {
  const ops::RopeOptions options{.heads = heads_,
                                 .n_rotate = n_rotate_,
                                 .first_position = cache != nullptr ? cache->length() : 0,
                                 .base = rope_base_,
                                 .scale = std::pow(static_cast<double>(head_dim_), -0.25)};
  const Variable queries = ops::rope(tape, q.forward(tape, inputs.q_source), options);
  const Variable keys = ops::rope(tape, k.forward(tape, inputs.k_source), options);
  if (cache == nullptr) return ops::attention(tape, queries, keys, v, heads_, mask);
  const LayerCache::Extended all = cache->extend(tape, keys, v);
  return ops::attention(tape, queries, all.k, all.v, heads_, mask, all.length);
}

}  // namespace moeut
