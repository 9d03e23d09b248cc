#include "autograd/ops/entropy.h"

#include "autograd/op.h"
#include "kernels/entropy.h"

namespace moeut::ops {

namespace {

struct Saved {
  int64_t batch, time, heads, experts;
  double scale;
  std::vector<Tensor> logits;
  Tensor log_mean;
};

void backward(const Saved& s, const Tensor& dreg, InputGradients& in) {
  for (size_t r = 0; r < s.logits.size(); ++r) {
    if (!in.wanted(r)) continue;
    const GradientTarget d = in.target(r);
    on_device_floating(dreg.device(), dreg.dtype(), [&]<class T>(auto tag) {
      kernels::entropy_backward<T>(tag, Launch{},
                                   {.batch = s.batch,
                                    .time = s.time,
                                    .heads = s.heads,
                                    .experts = s.experts,
                                    .repeats = static_cast<int64_t>(s.logits.size()),
                                    .logits = s.logits[r].data<T>(),
                                    .log_mean = s.log_mean.data<T>(),
                                    .scale = s.scale,
                                    .dreg = dreg.data<T>(),
                                    .dlogits = d.tensor.data<T>(),
                                    .mode = d.mode});
    });
  }
}

Saved prepare(const std::vector<Variable>& logits, int64_t heads, double scale) {
  require<ShapeError>(!logits.empty() && heads > 0, "entropy: no logits, or {} heads", heads);
  const Shape& shape = logits.front().shape();
  require<ShapeError>(shape.rank() == 3 && shape[2] % heads == 0, "entropy: logits {} do not split into {} heads",
                      shape.str("B T HE"), heads);
  Saved s{shape[0], shape[1], heads, shape[2] / heads, scale, {}, {}};
  for (const Variable& l : logits) {
    require<ShapeError>(l.shape() == shape, "entropy: logits of shapes {} and {}", shape.str(), l.shape().str());
    s.logits.push_back(l.value());
  }
  s.log_mean = Tensor::empty({s.batch, heads, s.experts}, logits.front().dtype(), logits.front().device());
  return s;
}

}  // namespace

Variable entropy(Tape& tape, const std::vector<Variable>& logits, int64_t heads, double scale) {
  const Saved s = prepare(logits, heads, scale);
  const Device device = logits.front().device();
  Tensor reg = Tensor::empty({1}, logits.front().dtype(), device);
  on_floating(reg.dtype(), [&]<class T>() {
    std::vector<const T*> pointers;
    for (const Tensor& l : s.logits) pointers.push_back(l.data<T>());
    Workspace workspace(device, workspace_bytes(device, [&](auto tag) {
                          return kernels::entropy_workspace_bytes<T>(tag, s.batch, s.time, heads, s.experts);
                        }));
    on_device(device, [&](auto tag) {
      kernels::entropy_forward<T>(tag, workspace,
                                  {.batch = s.batch,
                                   .time = s.time,
                                   .heads = heads,
                                   .experts = s.experts,
                                   .logits = pointers,
                                   .scale = scale,
                                   .log_mean = s.log_mean.data<T>(),
                                   .reg = reg.data<T>()});
    });
  });
  return tape.record(reg, logits, [s](const Tensor& dreg, InputGradients& in) { backward(s, dreg, in); });
}

}  // namespace moeut::ops
