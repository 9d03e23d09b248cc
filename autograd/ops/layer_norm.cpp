#include "autograd/ops/layer_norm.h"

#include "autograd/op.h"
#include "kernels/layer_norm.h"

namespace moeut::ops {

namespace {

constexpr size_t kX = 0, kWeight = 1, kBias = 2, kBranch = 3;  // inputs of the node

struct Saved {
  Tensor h, weight, mean, rstd;
  bool has_branch = false;
};

/// Gradients of the outputs; undefined where nothing depends on one, or where it is none.
struct Upstream {
  Tensor y, h, narrow;
};

template <class T>
T* data_or_null(const Tensor& t) {
  return t.defined() ? t.data<T>() : nullptr;
}

void check(const Variable& x, const Variable& branch, const Variable& weight, const Variable& bias, DType out) {
  const int64_t n = x.shape().row_size();
  require<ShapeError>(weight.shape() == Shape{n} && bias.shape() == Shape{n},
                      "layer_norm: weight {} and bias {} do not fit x {}", weight.shape().str(), bias.shape().str(),
                      x.shape().str());
  require<ShapeError>(!branch.defined() || branch.shape() == x.shape(), "layer_norm: branch {} does not fit x {}",
                      branch.shape().str(), x.shape().str());
  require_same_kind("layer_norm", {&x.value(), &branch.value(), &weight.value(), &bias.value()});
  require_wide("layer_norm", "x", x.value(), out);
}

/// The addition alone, where y has no part in the loss: it may not even be used.
void backward_of_sum(const Saved& s, const Upstream& up, InputGradients& in) {
  for (const size_t input : {kX, kBranch}) {
    if (input == kBranch && !s.has_branch) continue;
    if (!in.wanted(input)) continue;
    if (up.h.defined()) in.contribute(input, up.h);
    if (up.narrow.defined()) in.contribute(input, as_type(up.narrow, s.h.dtype()));
  }
}

/// Where the gradient of h goes. That of a sum is shared by both terms: it is made in place of what comes from above
/// through h, if nobody else reads that. Without a branch, h is x and what has come so far is in x's gradient.
Tensor target_of_sum(const Saved& s, Upstream& up, InputGradients& in) {
  if (s.has_branch) {
    if (!in.wanted(kX) && !in.wanted(kBranch)) return {};
    return up.h.defined() && !up.h.shared() ? up.h : Tensor::empty(s.h.shape(), s.h.dtype(), s.h.device());
  }
  if (!in.wanted(kX)) return {};
  const GradientTarget x = in.target(kX);
  if (x.mode == Mode::accumulate) up.h = x.tensor;
  return x.tensor;
}

void backward(const Saved& s, Upstream up, InputGradients& in) {
  if (!up.y.defined()) return backward_of_sum(s, up, in);
  const int64_t rows = s.h.shape().rows(), n = s.h.shape().row_size();
  const Tensor dx = target_of_sum(s, up, in);
  const GradientTarget dweight = in.wanted(kWeight) ? in.target(kWeight) : GradientTarget{};
  const GradientTarget dbias = in.wanted(kBias) ? in.target(kBias) : GradientTarget{};
  on_number(up.y.dtype(), [&]<class T>() {
    Workspace workspace(s.h.device(), workspace_bytes(s.h.device(), [&](auto tag) {
                          return kernels::layer_norm_backward_workspace_bytes<T>(tag, rows, n);
                        }));
    on_device(s.h.device(), [&](auto tag) {
      kernels::layer_norm_backward<T>(tag, workspace,
                                      {.rows = rows,
                                       .n = n,
                                       .dy = up.y.data<T>(),
                                       .lddy = n,
                                       .x = s.h.data<Wide<T>>(),
                                       .ldx = n,
                                       .weight = s.weight.data<Wide<T>>(),
                                       .mean = s.mean.data<Wide<T>>(),
                                       .rstd = s.rstd.data<Wide<T>>(),
                                       .dx = data_or_null<Wide<T>>(dx),
                                       .lddx = n,
                                       .dweight = data_or_null<Wide<T>>(dweight.tensor),
                                       .dweight_mode = dweight.mode,
                                       .dbias = data_or_null<Wide<T>>(dbias.tensor),
                                       .dbias_mode = dbias.mode,
                                       .dh = data_or_null<Wide<T>>(up.h),
                                       .dnarrow = data_or_null<T>(up.narrow)});
    });
  });
  if (!s.has_branch) return;
  up.h = Tensor();  // dx is all that still holds the buffer
  for (const size_t input : {kX, kBranch}) {
    if (in.wanted(input)) in.contribute(input, dx);
  }
}

/// y, then h where there is a branch, then narrow where it is wanted and not h itself.
std::vector<Variable> run(Tape& tape, const Variable& x, const Variable& branch, const Variable& weight,
                          const Variable& bias, const LayerNormOptions& options, bool narrow) {
  const DType out = options.out.value_or(x.dtype());
  check(x, branch, weight, bias, out);
  const int64_t rows = x.shape().rows(), n = x.shape().row_size();
  const auto empty = [&](DType type) { return Tensor::empty(x.shape(), type, x.device()); };
  std::vector<Tensor> outputs = {empty(out)};
  const Tensor h = branch.defined() ? outputs.emplace_back(empty(x.dtype())) : x.value();
  const Tensor copy = narrow && out != x.dtype() ? outputs.emplace_back(empty(out)) : Tensor();
  const Saved saved{h, weight.value(), Tensor::empty({rows}, x.dtype(), x.device()),
                    Tensor::empty({rows}, x.dtype(), x.device()), branch.defined()};
  on_device_number(x.device(), out, [&]<class T>(auto tag) {
    kernels::layer_norm_forward<T>(tag, Launch{},
                                   {.rows = rows,
                                    .n = n,
                                    .x = x.value().data<Wide<T>>(),
                                    .ldx = n,
                                    .weight = weight.value().data<Wide<T>>(),
                                    .bias = bias.value().data<Wide<T>>(),
                                    .y = outputs.front().data<T>(),
                                    .ldy = n,
                                    .mean = saved.mean.data<Wide<T>>(),
                                    .rstd = saved.rstd.data<Wide<T>>(),
                                    .eps = options.eps,
                                    .branch = data_or_null<Wide<T>>(branch.value()),
                                    .h = branch.defined() ? h.data<Wide<T>>() : nullptr,
                                    .narrow = data_or_null<T>(copy)});
  });
  std::vector<Variable> inputs = {x, weight, bias};
  if (branch.defined()) inputs.push_back(branch);
  return tape.record_joint(std::move(outputs), inputs,
                           [saved, has_copy = copy.defined()](std::vector<Tensor> dy, InputGradients& in) {
                             backward(saved,
                                      {.y = std::move(dy.front()),
                                       .h = saved.has_branch ? std::move(dy[1]) : Tensor(),
                                       .narrow = has_copy ? std::move(dy.back()) : Tensor()},
                                      in);
                           });
}

}  // namespace

Variable layer_norm(Tape& tape, const Variable& x, const Variable& weight, const Variable& bias,
                    const LayerNormOptions& options) {
  return run(tape, x, {}, weight, bias, options, false).front();
}

NormedSum layer_norm_of_sum(Tape& tape, const Variable& x, const Variable& branch, const Variable& weight,
                            const Variable& bias, const LayerNormOptions& options) {
  const std::vector<Variable> outputs = run(tape, x, branch, weight, bias, options, true);
  const Variable& h = branch.defined() ? outputs[1] : x;
  return {h, outputs.front().dtype() == x.dtype() ? h : outputs.back(), outputs.front()};
}

}  // namespace moeut::ops
