// What every op's test asks of its backward: true gradients, sums over several uses, and no gradient for a constant.
#pragma once

#include <omp.h>

#include <functional>
#include <map>

#include "autograd/grad_check.h"
#include "autograd/tape.h"
#include "tests/testing.h"

namespace moeut::testing {

using Op = std::function<Variable(Tape&, const std::vector<Variable>&)>;

/// A fixed upstream gradient for an output.
inline Tensor upstream(const Variable& y, uint64_t stream) {
  return random_tensor(y.shape(), 9000 + stream, 1, y.dtype()).to(y.device());
}

/// A variable's gradient, zeros if nothing reached it.
inline Tensor gradient_of(const Variable& x) {
  return x.gradient().defined() ? x.gradient() : Tensor::zeros(x.shape(), x.dtype(), x.device());
}

/// The value of op and its gradients for upstream number `stream`. Inputs other than `only` (if not -1) are constants
/// and get none.
inline std::vector<Tensor> value_and_gradients(const Op& op, const std::vector<Tensor>& inputs, uint64_t stream = 0,
                                               int only = -1) {
  Tape tape;
  std::vector<Variable> x;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const bool constant = only >= 0 && static_cast<int>(i) != only;
    x.push_back(constant ? Variable(inputs[i]) : tape.leaf(inputs[i]));
  }
  const Variable y = op(tape, x);
  tape.backward_from({{y, upstream(y, stream)}});
  std::vector<Tensor> results = {y.value()};
  for (const Variable& v : x) {
    if (v.needs_gradient()) results.push_back(gradient_of(v));
  }
  return results;
}

/// Float64, central differences. Their own error is about step² (third derivative) + ε / step = 1e-10, so 1e-6 leaves
/// room for cancellation alone.
inline void expect_true_gradients(const Op& op, const std::vector<Tensor>& inputs) {
  const OneThread quick;
  const GradCheckResult result = grad_check(op, inputs);
  CHECK_MESSAGE(result.worst() <= 1e-6, result.report);
}

/// The gradients of three uses of the inputs, each with its own upstream, one after the other.
inline std::vector<Tensor> sum_of_three(const Op& op, const std::vector<Tensor>& inputs) {
  std::vector<Tensor> sum;
  for (uint64_t use = 0; use < 3; ++use) {
    const std::vector<Tensor> part = value_and_gradients(op, inputs, use);
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (use == 0) {
        sum.push_back(part[i + 1].clone());
        continue;
      }
      for (int64_t j = 0; j < sum[i].size(); ++j) sum[i].data<double>()[j] += part[i + 1].data<double>()[j];
    }
  }
  return sum;
}

/// Values used three times on one tape get the sum of the gradients: the second and third come with mode accumulate.
inline void expect_uses_add_up(const Op& op, const std::vector<Tensor>& inputs) {
  Tape tape;
  std::vector<Variable> x;
  for (const Tensor& t : inputs) x.push_back(tape.leaf(t));
  std::vector<std::pair<Variable, Tensor>> seeds;
  for (uint64_t use = 0; use < 3; ++use) {
    const Variable y = op(tape, x);
    seeds.emplace_back(y, upstream(y, use));
  }
  tape.backward_from(seeds);
  const std::vector<Tensor> expected = sum_of_three(op, inputs);
  for (size_t i = 0; i < inputs.size(); ++i) {
    INFO("input ", i);
    expect_close(gradient_of(x[i]), expected[i], 256);
  }
}

/// The same for parameters of a layer that repeats three times; deferred weight gradients run at the last use.
inline void expect_parameter_repeats_add_up(const Op& op, const std::vector<Tensor>& inputs) {
  std::vector<Parameter> parameters(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) parameters[i].value = inputs[i];
  std::map<Parameter*, int> finished;
  Tape tape;
  tape.on_final_gradient = [&](Parameter& p) { ++finished[&p]; };
  std::vector<std::pair<Variable, Tensor>> seeds;
  for (uint64_t repeat = 0; repeat < 3; ++repeat) {
    std::vector<Variable> x;
    for (Parameter& p : parameters) x.push_back(tape.parameter(p));
    const Variable y = op(tape, x);
    seeds.emplace_back(y, upstream(y, repeat));
  }
  tape.backward_from(seeds);
  const std::vector<Tensor> expected = sum_of_three(op, inputs);
  for (size_t i = 0; i < inputs.size(); ++i) {
    INFO("parameter ", i);
    CHECK(finished[&parameters[i]] == 1);
    REQUIRE(parameters[i].has_gradient);
    expect_close(parameters[i].gradient, expected[i], 256);
  }
}

/// An input's gradient does not depend on whether the others want theirs.
inline void expect_constants_make_no_difference(const Op& op, const std::vector<Tensor>& inputs) {
  const std::vector<Tensor> all = value_and_gradients(op, inputs);
  for (size_t i = 0; i < inputs.size(); ++i) {
    INFO("input ", i, " alone");
    expect_same_bits(value_and_gradients(op, inputs, 0, static_cast<int>(i)), {all[0], all[i + 1]});
  }
}

/// All of the above, in float64.
inline void expect_sound_backward(const Op& op, const std::vector<Tensor>& inputs) {
  expect_true_gradients(op, inputs);
  expect_uses_add_up(op, inputs);
  expect_parameter_repeats_add_up(op, inputs);
  expect_constants_make_no_difference(op, inputs);
}

/// On CUDA, where there is a device: the CPU's value and gradients within `roundings` (see expect_close), in float32
/// and float64, and the same bits when run again.
inline void expect_devices_agree(const Op& op, const std::vector<Tensor>& inputs, double roundings = 256) {
  if (cuda_device_count() == 0) return;
  for (const DType dtype : {DType::f32, DType::f64}) {
    INFO("cuda ", name_of(dtype));
    std::vector<Tensor> here, there;
    for (const Tensor& t : inputs) {
      here.push_back(t.to(Device::cpu(), dtype));
      there.push_back(here.back().to(Device::cuda()));
    }
    const std::vector<Tensor> expected = value_and_gradients(op, here), actual = value_and_gradients(op, there);
    for (size_t i = 0; i < expected.size(); ++i) {
      INFO((i == 0 ? "value" : "gradient of input "), i);
      expect_close(actual[i].to(Device::cpu()), expected[i], roundings);
    }
    expect_same_bits(value_and_gradients(op, there), actual);
  }
}

/// Run again, and on 1, 2 and 3 threads: the same bits in the value and the gradients, in float32. And on every device.
inline void expect_reproducible(const Op& op, std::vector<Tensor> inputs) {
  for (Tensor& t : inputs) t = t.to(Device::cpu(), DType::f32);
  const int before = omp_get_max_threads();
  const std::vector<Tensor> first = value_and_gradients(op, inputs);
  for (const int threads : {before, 1, 2, 3}) {
    omp_set_num_threads(threads);
    INFO(threads, " threads");
    expect_same_bits(value_and_gradients(op, inputs), first);
  }
  omp_set_num_threads(before);
  expect_devices_agree(op, inputs);
}

}  // namespace moeut::testing
