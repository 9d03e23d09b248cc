// Attention, loss, norm and optimizer.
#include <cmath>
#include <memory>

#include "autograd/op.h"
#include "autograd/ops/layer_norm.h"
#include "autograd/ops/linear_cross_entropy.h"
#include "kernels/attention.h"
#include "kernels/cross_entropy.h"
#include "layers/moeut_lm.h"
#include "trainer/benchmark/kernel_subject.h"
#include "trainer/benchmark/operands.h"
#include "trainer/optimizer.h"

namespace moeut {
namespace {

kernels::AttentionShape attention_shape(const KernelShape& shape) {
  const int64_t width = shape.model.n_heads * shape.model.head_dim();
  return {.batch = shape.batch,
          .heads = shape.model.n_heads,
          .q_len = shape.time,
          .k_len = shape.time,
          .head_dim = shape.model.head_dim(),
          .q_row_stride = width,
          .q_batch_stride = width * shape.time,
          .kv_row_stride = width,
          .kv_batch_stride = width * shape.time};
}

/// One layer's causal self-attention; q and k so small that scores have a standard deviation of 1.
struct Attention {
  static constexpr kernels::AttentionMask kMask{.causal = true};
  kernels::AttentionShape shape;
  Tensor q, k, v, out, lse;

  Attention(const KernelShape& s, Device device, uint64_t stream) : shape(attention_shape(s)) {
    const Shape extents{s.batch, s.time, shape.heads * shape.head_dim};
    const double scale = std::pow(static_cast<double>(shape.head_dim), -0.25);
    q = random_operand(extents, s.compute, device, 8 * stream, scale);
    k = random_operand(extents, s.compute, device, 8 * stream + 1, scale);
    v = random_operand(extents, s.compute, device, 8 * stream + 2);
    out = Tensor::empty(extents, s.compute, device);
    lse = Tensor::empty({s.batch, shape.heads, s.time}, s.wide(), device);
  }

  void forward(const Launch& launch) const {
    on_device_number(q.device(), q.dtype(), [&]<class T>(auto tag) {
      kernels::attention_forward<T>(tag, launch,
                                    {.shape = shape,
                                     .mask = kMask,
                                     .q = q.data<T>(),
                                     .k = k.data<T>(),
                                     .v = v.data<T>(),
                                     .out = out.data<T>(),
                                     .lse = lse.data<Wide<T>>()});
    });
  }

  Workspace forward_workspace() const {
    size_t bytes = 0;
    on_number(q.dtype(), [&]<class T>() {
      bytes = workspace_bytes(
          q.device(), [&](auto tag) { return kernels::attention_forward_workspace_bytes<T>(tag, shape, kMask); });
    });
    return {q.device(), bytes};
  }
};

KernelRun attention(const KernelShape& shape, Device device, uint64_t stream) {
  const Attention a(shape, device, stream);
  return [a, workspace = a.forward_workspace()] { a.forward(workspace); };
}

KernelRun attention_backward(const KernelShape& shape, Device device, uint64_t stream) {
  const Attention a(shape, device, stream);
  a.forward(a.forward_workspace());
  const Tensor dout = random_operand(a.q.shape(), shape.compute, device, 8 * stream + 3);
  const Tensor dq = Tensor::empty(a.q.shape(), shape.compute, device), dk = dq.clone(), dv = dq.clone();
  size_t bytes = 0;
  on_number(shape.compute, [&]<class T>() {
    bytes = workspace_bytes(device, [&](auto tag) {
      return kernels::attention_backward_workspace_bytes<T>(tag, a.shape, Attention::kMask);
    });
  });
  return [=, workspace = Workspace(device, bytes)] {
    on_device_number(device, dq.dtype(), [&]<class T>(auto tag) {
      kernels::attention_backward<T>(tag, workspace,
                                     {.shape = a.shape,
                                      .mask = Attention::kMask,
                                      .q = a.q.data<T>(),
                                      .k = a.k.data<T>(),
                                      .v = a.v.data<T>(),
                                      .out = a.out.data<T>(),
                                      .lse = a.lse.data<Wide<T>>(),
                                      .dout = dout.data<T>(),
                                      .dq = dq.data<T>(),
                                      .dk = dk.data<T>(),
                                      .dv = dv.data<T>()});
    });
  };
}

/// Loss and the logits' gradient, in one pass.
KernelRun cross_entropy(const KernelShape& shape, Device device, uint64_t stream) {
  const int64_t n = shape.tokens(), v = shape.model.n_tokens;
  const Tensor logits = random_operand({n, v}, shape.compute, device, 8 * stream), dlogits = logits.clone();
  const Tensor target = random_ids(n, v, device, 8 * stream + 1);
  const Tensor lse = Tensor::empty({n}, shape.wide(), device), row_loss = lse.clone();
  return [=] {
    on_device_number(device, logits.dtype(), [&]<class T>(auto tag) {
      kernels::cross_entropy_forward<T>(tag, Launch{},
                                        {.rows = n,
                                         .vocabulary = v,
                                         .logits = logits.data<T>(),
                                         .ld_logits = v,
                                         .target = target.data<int32_t>(),
                                         .lse = lse.data<Wide<T>>(),
                                         .row_loss = row_loss.data<Wide<T>>(),
                                         .dlogits = dlogits.data<T>()});
    });
  };
}

/// From the head's input to the loss and back.
KernelRun head(const KernelShape& shape, Device device, uint64_t stream) {
  const int64_t n = shape.tokens(), v = shape.model.n_tokens, d = shape.model.d_model;
  const Tensor x = random_operand({n, d}, shape.compute, device, 8 * stream);
  const Tensor bias = random_operand({v}, shape.wide(), device, 8 * stream + 1);
  const Tensor target = random_ids(n, v, device, 8 * stream + 2);
  auto weight = std::make_shared<Parameter>(
      make_parameter("head", {v, d}, {.dtype = shape.wide(), .device = device, .compute = shape.compute}, true));
  weight->value = random_operand({v, d}, shape.wide(), device, 8 * stream + 3, 1 / std::sqrt(static_cast<double>(d)));
  weight->refresh_narrow();
  Tensor one = Tensor::empty({1}, shape.wide(), device);
  fill(one, 1);
  return [=] {
    Tape tape;
    const auto ce = ops::linear_cross_entropy(tape, tape.leaf(x), tape.parameter(*weight), tape.leaf(bias), target,
                                              {.scale = 1 / static_cast<double>(n)});
    tape.backward_from({{ce.loss, one}});
  };
}

/// From the wide residual stream to operands of the compute type and back.
KernelRun layer_norm(const KernelShape& shape, Device device, uint64_t stream) {
  const Shape extents{shape.batch, shape.time, shape.model.d_model}, row{shape.model.d_model};
  const Tensor x = random_operand(extents, shape.wide(), device, 8 * stream);
  const Tensor weight = random_operand(row, shape.wide(), device, 8 * stream + 1);
  const Tensor bias = random_operand(row, shape.wide(), device, 8 * stream + 2);
  const Tensor dy = random_operand(extents, shape.compute, device, 8 * stream + 3);
  return [=] {
    Tape tape;
    const Variable y = ops::layer_norm(tape, tape.leaf(x), tape.leaf(weight), tape.leaf(bias), {.out = dy.dtype()});
    tape.backward_from({{y, dy}});
  };
}

/// A stream's sum, its copy and its norm, and back.
KernelRun residual_norm(const KernelShape& shape, Device device, uint64_t stream) {
  const Shape extents{shape.batch, shape.time, shape.model.d_model}, row{shape.model.d_model};
  const Tensor x = random_operand(extents, shape.wide(), device, 8 * stream);
  const Tensor branch = random_operand(extents, shape.wide(), device, 8 * stream + 1);
  const Tensor weight = random_operand(row, shape.wide(), device, 8 * stream + 2);
  const Tensor bias = random_operand(row, shape.wide(), device, 8 * stream + 3);
  const Tensor dh = random_operand(extents, shape.wide(), device, 8 * stream + 4);
  const Tensor dy = random_operand(extents, shape.compute, device, 8 * stream + 5), dnarrow = dy.clone();
  return [=] {
    Tape tape;
    const ops::NormedSum s = ops::layer_norm_of_sum(tape, tape.leaf(x), tape.leaf(branch), tape.leaf(weight),
                                                    tape.leaf(bias), {.out = dy.dtype()});
    tape.backward_from({{s.h, dh}, {s.narrow, dnarrow}, {s.y, dy}});
  };
}

/// A whole model's parameters with gradients.
struct Training {
  std::vector<Parameter> parameters;
  std::unique_ptr<AdamW> optimizer;

  Training(const KernelShape& shape, Device device, uint64_t stream) {
    const ModuleOptions nowhere{.dtype = shape.wide(), .device = Device::meta(), .compute = shape.compute};
    MoeutLm model(shape.model, 0, nowhere);
    const ModuleOptions options{.dtype = shape.wide(), .device = device, .compute = shape.compute};
    for (const Parameter* p : model.parameters()) {
      parameters.push_back(make_parameter(p->name, p->value.shape(), options, p->is_matrix));
      Parameter& made = parameters.back();
      made.value = random_operand(p->value.shape(), shape.wide(), device, 2 * stream, 0.02);
      made.gradient = random_operand(p->value.shape(), shape.wide(), device, 2 * stream + 1, 1e-3);
      made.refresh_narrow();
    }
    std::vector<Parameter*> all;
    for (Parameter& p : parameters) all.push_back(&p);
    optimizer = std::make_unique<AdamW>(OptimizerSection{}, all);
  }

  void step() {
    for (Parameter& p : parameters) p.has_gradient = true;
    optimizer->step(1e-4);
  }
};

KernelRun adamw(const KernelShape& shape, Device device, uint64_t stream) {
  return [training = std::make_shared<Training>(shape, device, stream)] { training->step(); };
}

}  // namespace

std::vector<KernelSubject> layer_subjects() {
  return {{"attention", attention_cost, attention},
          {"attention-backward", attention_backward_cost, attention_backward},
          {"cross-entropy", cross_entropy_cost, cross_entropy},
          {"head", head_cost, head},
          {"layer-norm", layer_norm_cost, layer_norm},
          {"residual-norm", residual_norm_cost, residual_norm},
          {"adamw", adamw_cost, adamw}};
}

}  // namespace moeut
