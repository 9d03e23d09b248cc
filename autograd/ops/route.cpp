#include "autograd/ops/route.h"

#include "autograd/op.h"
#include "kernels/routing.h"

namespace moeut::ops {

namespace {

void choose(const Tensor& logits, const RouteOptions& o, const Tensor& expert, const Tensor& gate) {
  const int64_t rows = expert.shape()[0], experts = logits.shape()[2] / o.heads;
  on_device_floating(logits.device(), logits.dtype(), [&]<class T>(auto tag) {
    kernels::TopK<T> args{.rows = rows,
                          .experts = experts,
                          .k = o.k,
                          .heads = o.heads,
                          .logits = logits.data<T>(),
                          .ld_logits = experts,
                          .drop = o.expert_dropout,
                          .site = o.source.site,
                          .rows_per_sequence = logits.shape()[1] * o.heads,
                          .expert = expert.data<int32_t>(),
                          .gate = gate.data<T>()};
    if (o.forced.defined()) args.forced = o.forced.data<int32_t>();
    if (o.expert_dropout > 0) args.rng = static_cast<const RngState*>(o.source.state.raw());
    kernels::top_k<T>(tag, Launch{}, args);
  });
}

/// Forced ids must be experts of the row's own head. Host tensors only: on a device they come from a trace that this
/// program recorded.
void check_forced(const Tensor& forced, int64_t heads, int64_t experts) {
  if (!forced.defined() || !forced.device().is_cpu()) return;
  const int32_t* ids = forced.data<int32_t>();
  for (int64_t i = 0; i < forced.size(); ++i) {
    const int64_t row = i / forced.shape()[1], first = row % heads * experts;
    require<ShapeError>(ids[i] >= first && ids[i] < first + experts,
                        "route: forced expert {} of row {} is not among its experts {} to {}", ids[i], row, first,
                        first + experts - 1);
  }
}

void sort(Routing& r, Device device) {
  Workspace workspace(device, workspace_bytes(device, [&](auto tag) {
                        return kernels::sort_pairs_workspace_bytes(tag, r.pairs(), r.experts());
                      }));
  on_device(device, [&](auto tag) {
    kernels::sort_pairs(tag, workspace, r.pairs(), r.experts(), r.expert.data<int32_t>(), r.order.data<int32_t>(),
                        r.place.data<int32_t>(), r.offsets.data<int32_t>());
  });
}

}  // namespace

Routing route(Tape& tape, const Variable& logits, const RouteOptions& o) {
  const Shape& shape = logits.shape();
  require<ShapeError>(shape.rank() == 3 && o.heads > 0 && shape[2] % o.heads == 0,
                      "route: logits {} do not split into {} heads", shape.str("B T HE"), o.heads);
  const int64_t experts = shape[2] / o.heads, rows = shape[0] * shape[1] * o.heads;
  require<ShapeError>(o.k >= 1 && o.k <= experts, "route: cannot choose k = {} of {} experts", o.k, experts);
  require<ShapeError>(!o.forced.defined() || o.forced.shape() == Shape{rows, o.k},
                      "route: forced experts {} should be {}", o.forced.str(), Shape{rows, o.k}.str("rows k"));
  check_forced(o.forced, o.heads, experts);
  const Device device = logits.device();
  Routing r;
  r.k = o.k;
  r.expert = Tensor::empty({rows, o.k}, DType::i32, device);
  r.order = Tensor::empty({rows * o.k}, DType::i32, device);
  r.place = Tensor::empty({rows * o.k}, DType::i32, device);
  r.offsets = Tensor::empty({shape[2] + 1}, DType::i32, device);
  Tensor gate = Tensor::empty({rows, o.k}, logits.dtype(), device);
  choose(logits.value(), o, r.expert, gate);
  sort(r, device);
  r.gate = tape.record(gate, {logits}, [expert = r.expert, gate, experts](const Tensor& dgate, InputGradients& in) {
    const GradientTarget d = in.target(0);
    on_device_floating(dgate.device(), dgate.dtype(), [&]<class T>(auto tag) {
      kernels::top_k_backward<T>(tag, Launch{},
                                 {.rows = gate.shape()[0],
                                  .experts = experts,
                                  .k = gate.shape()[1],
                                  .expert = expert.data<int32_t>(),
                                  .gate = gate.data<T>(),
                                  .dgate = dgate.data<T>(),
                                  .dlogits = d.tensor.data<T>(),
                                  .ld_dlogits = experts,
                                  .mode = d.mode});
    });
  });
  return r;
}

}  // namespace moeut::ops
