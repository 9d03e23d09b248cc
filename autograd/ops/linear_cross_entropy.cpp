#include "autograd/ops/linear_cross_entropy.h"

#include <algorithm>

#include "autograd/op.h"
#include "autograd/ops/linear_passes.h"
#include "core/check.h"
#include "kernels/cross_entropy.h"
#include "kernels/elementwise.h"

namespace moeut::ops {

namespace {

/// Gradients for an upstream gradient of options.upstream; undefined where not wanted. That of weight is summed over
/// blocks, so it is wide; so is that of bias.
struct Gradients {
  Tensor x, weight, bias;

  bool any() const { return x.defined() || weight.defined() || bias.defined(); }
};

/// All rows, which blocks take their part of.
struct Head {
  Tensor x, weight, bias, target;  ///< x: (N, K)
  Tensor lse, row_loss;            ///< (N)
  LinearCrossEntropyOptions options;
  Gradients gradients;

  int64_t rows() const { return x.shape()[0]; }
  int64_t vocabulary() const { return weight.shape()[0]; }
};

Gradients gradients_for(const Variable& x, const Variable& weight, const Variable& bias) {
  const auto empty = [&](const Variable& v, DType type) {
    return v.needs_gradient() ? Tensor::empty(v.shape(), type, v.device()) : Tensor();
  };
  return {empty(x, x.dtype()), empty(weight, wide_of(x.dtype())), empty(bias, wide_of(x.dtype()))};
}

/// Rows of a block: equal parts of all, in whole tiles of a matrix product.
int64_t rows_of_block(const Head& head) {
  constexpr int64_t kTile = 128;
  const int64_t logits = head.rows() * head.vocabulary();
  const int64_t blocks = std::max<int64_t>(1, (logits + head.options.block_elements - 1) / head.options.block_elements);
  const int64_t share = (head.rows() + blocks - 1) / blocks;
  return blocks == 1 ? share : (share + kTile - 1) / kTile * kTile;
}

/// Losses of rows [begin, begin + logits.rows()); where gradients are wanted, theirs take the logits' place.
void losses_of(const Head& head, const Tensor& logits, int64_t begin) {
  const int64_t count = logits.shape()[0];
  const bool with_gradient = head.gradients.any();
  on_device_number(logits.device(), logits.dtype(), [&]<class T>(auto tag) {
    kernels::cross_entropy_forward<T>(
        tag, Launch{},
        {.rows = count,
         .vocabulary = head.vocabulary(),
         .logits = logits.data<T>(),
         .ld_logits = logits.shape().row_size(),
         .target = head.target.data<int32_t>() + begin,
         .lse = head.lse.data<Wide<T>>() + begin,
         .row_loss = head.row_loss.data<Wide<T>>() + begin,
         .dlogits = with_gradient ? logits.data<T>() : nullptr,
         .dloss = head.options.upstream.defined() ? head.options.upstream.data<Wide<T>>() : nullptr,
         .scale = head.options.scale});
  });
}

void add_gradients(const Head& head, const Tensor& dlogits, const Tensor& x, int64_t begin) {
  const Gradients& g = head.gradients;
  const Mode mode = begin == 0 ? Mode::overwrite : Mode::accumulate;
  if (g.x.defined()) {
    const Tensor dx = g.x.reshape(head.x.shape()).slice(begin, x.shape()[0]);
    linear_input_gradient(dlogits, head.weight, {dx, Mode::overwrite});
  }
  if (g.weight.defined()) linear_weight_gradient(dlogits, x, {g.weight, mode});
  if (g.bias.defined()) linear_bias_gradient(dlogits, {g.bias, mode});
}

void run_blocks(const Head& head) {
  const DType type = head.x.dtype();
  const Device device = head.x.device();
  const int64_t most = rows_of_block(head);
  const Tensor block = Tensor::empty({most, operand_extent(head.vocabulary(), type, device)}, type, device);
  for (int64_t begin = 0; begin < head.rows(); begin += most) {
    const int64_t count = std::min(most, head.rows() - begin);
    const Tensor x = head.x.slice(begin, count), logits = block.slice(0, count);
    linear_forward(x, head.weight, head.bias, logits);
    losses_of(head, logits, begin);
    add_gradients(head, logits, x, begin);
  }
}

/// gradient · dloss / upstream to an input.
void deliver(const Tensor& gradient, const Tensor& dloss, const Tensor& upstream, InputGradients& in, size_t input) {
  if (!gradient.defined()) return;
  const GradientTarget to = in.target(input);
  const Tensor from = as_type(gradient, to.tensor.dtype());
  on_device_number(from.device(), from.dtype(), [&]<class T>(auto tag) {
    kernels::scale_by_ratio<T>(tag, Launch{}, from.size(), dloss.data<Wide<T>>(),
                               upstream.defined() ? upstream.data<Wide<T>>() : nullptr, from.data<T>(),
                               to.tensor.data<T>(), to.mode);
  });
}

}  // namespace

CrossEntropy linear_cross_entropy(Tape& tape, const Variable& x, const Variable& weight, const Variable& bias,
                                  const Tensor& target, const LinearCrossEntropyOptions& options) {
  check_linear("linear_cross_entropy", x, weight, bias);
  const int64_t rows = x.shape().rows();
  check_targets("linear_cross_entropy", target, rows, weight.shape()[0], x.device());
  const DType wide = wide_of(x.dtype());
  const Head head{x.value().reshape({rows, x.shape()[-1]}),
                  weight.value(),
                  bias.value(),
                  target,
                  Tensor::empty({rows}, wide, x.device()),
                  Tensor::empty({rows}, wide, x.device()),
                  options,
                  gradients_for(x, weight, bias)};
  run_blocks(head);
  Tensor loss = Tensor::empty({1}, wide, x.device());
  on_device_floating(x.device(), wide, [&]<class W>(auto tag) {
    kernels::cross_entropy_total<W>(tag, Launch{}, rows, options.scale, head.row_loss.data<W>(), loss.data<W>());
  });
  std::vector<Variable> inputs = {x, weight};
  if (bias.defined()) inputs.push_back(bias);
  return {tape.record(loss, inputs,
                      [g = head.gradients, upstream = options.upstream](const Tensor& dloss, InputGradients& in) {
                        deliver(g.x, dloss, upstream, in, 0);
                        deliver(g.weight, dloss, upstream, in, 1);
                        deliver(g.bias, dloss, upstream, in, 2);
                      }),
          head.row_loss};
}

}  // namespace moeut::ops
