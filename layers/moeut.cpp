#include "layers/moeut.h"

#include <cstring>

#include "autograd/ops/add.h"
#include "autograd/ops/entropy.h"
#include "autograd/recompute.h"
#include "core/check.h"

namespace moeut {

namespace {

/// The position mask with visible columns added on the left, up to `keys` of them.
Tensor widen(const Tensor& mask, int64_t keys) {
  const int64_t missing = keys - mask.shape().row_size();
  if (missing <= 0) return mask;
  auto extents = mask.shape().extents();
  extents.back() = keys;
  const Tensor narrow = mask.to(Device::cpu());
  Tensor wide = Tensor::zeros(Shape(extents), DType::u8);
  const auto columns = static_cast<size_t>(narrow.shape().row_size());
  if (!mask.device().is_meta()) {
    for (int64_t r = 0; r < narrow.shape().rows(); ++r) {
      std::memcpy(wide.data<uint8_t>() + r * keys + missing, narrow.data<uint8_t>() + static_cast<size_t>(r) * columns,
                  columns);
    }
  }
  return wide.to(mask.device());
}

AttentionMask fit(AttentionMask mask, int64_t keys) {
  if (mask.position_mask.defined()) mask.position_mask = widen(mask.position_mask, keys);
  return mask;
}

/// The two terms of the layer's output and the logits of its routers.
std::vector<Variable> outputs_of(MoeutLayer& layer, ForwardContext& context, const Variable& x,
                                 const AttentionMask& mask) {
  const ResidualStream y = layer.forward(context, {x}, mask, nullptr);
  std::vector<Variable> outputs = {y.x, y.branch};
  for (const RouterLogits& router : context.routers) {
    outputs.insert(outputs.end(), router.logits.begin(), router.logits.end());
  }
  return outputs;
}

/// layer.forward, of which only the sum that it reads and the logits are kept: the backward pass runs it again from the
/// same place in the streams of random numbers.
ResidualStream forward_with_recompute(MoeutLayer& layer, ForwardContext& context, const ResidualStream& stream,
                                      const AttentionMask& mask) {
  const Variable x = stream.sum(context.tape);
  Tape unrecorded(Tape::Recording::off);
  ForwardContext first = context.fork(unrecorded);
  std::vector<Tensor> values;
  for (const Variable& y : outputs_of(layer, first, Variable(x.value()), mask)) values.push_back(y.value());
  const auto again = [&layer, mask, start = context.fork(context.tape)](Tape& tape, const Variable& input) {
    ForwardContext second = start.fork(tape);
    second.record = nullptr;  // the trace has this layer's experts already
    return outputs_of(layer, second, input, mask);
  };
  const auto outputs = record_region(context.tape, std::move(values), x, layer.parameters(), again);
  context.join(first, std::span(outputs).subspan(2));
  return {outputs[0], outputs[1]};
}

}  // namespace

Moeut::Moeut(const ModelConfig& config, uint64_t seed, const ModuleOptions& options, const std::string& prefix)
    : config_(config) {
  config_.validate(false);
  for (int64_t g = 0; g < config_.group_size; ++g) {
    layers.push_back(std::make_unique<MoeutLayer>(config_, prefix + "layers." + std::to_string(g), seed, options));
  }
  refresh_narrow();
}

MoeutOutput Moeut::forward(ForwardContext& context, const Variable& x, const AttentionMask& mask,
                           std::shared_ptr<KvCache> cache) {
  Result result = run(context, x, mask, std::move(cache));
  return {result.stream.sum(context.tape), std::move(result.reg_loss), std::move(result.cache)};
}

Moeut::Result Moeut::run(ForwardContext& context, const Variable& x, const AttentionMask& mask,
                         std::shared_ptr<KvCache> cache) {
  require<ShapeError>(x.shape().rank() == 3 && x.shape()[2] == config_.d_model, "moeut: input {} should be (B, T, {})",
                      x.shape().str("B T D"), config_.d_model);
  require<ShapeError>(!cache || cache->applications() == config_.n_layers,
                      "moeut: a cache of {} applications for n_layers = {}", cache ? cache->applications() : 0,
                      config_.n_layers);
  const AttentionMask wide = cache ? fit(mask, x.shape()[1] + cache->length()) : mask;
  context.begin_pass();
  ResidualStream h{x};
  for (int64_t application = 0; application < config_.n_layers; ++application) {
    MoeutLayer& layer = *layers[static_cast<size_t>(application % config_.group_size)];
    h = context.recompute && !cache ? forward_with_recompute(layer, context, h, wide)
                                    : layer.forward(context, h, wide, cache ? &cache->layer(application) : nullptr);
  }
  return {h, regulariser(context, x), std::move(cache)};
}

// reg_loss = entropy_reg · Σ_g reg_g + att_entropy_reg · Σ_g (reg_o + reg_v), each a mean over sequences.
Variable Moeut::regulariser(ForwardContext& context, const Variable& x) {
  const int64_t sequences = context.regulariser_sequences > 0 ? context.regulariser_sequences : x.shape()[0];
  Variable total;
  for (const RouterLogits& router : context.routers) {
    if (router.coefficient == 0) continue;
    const Variable reg =
        ops::entropy(context.tape, router.logits, router.heads, router.coefficient / static_cast<double>(sequences));
    total = total.defined() ? ops::add(context.tape, total, reg) : reg;
  }
  context.routers.clear();
  return total.defined() ? total : Variable(Tensor::zeros({1}, x.dtype(), x.device()));
}

void Moeut::visit_parameters(const ParameterVisitor& visit) {
  for (auto& layer : layers) layer->visit_parameters(visit);
}

}  // namespace moeut
