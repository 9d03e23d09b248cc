// Ops on CUDA against the CPU, in every number format, for shapes that are chosen to find what reaches too far.
#pragma once

#include "core/memory.h"
#include "tests/ops/op_testing.h"

namespace moeut::testing {

/// How an op takes an input: in the compute type, in its wide type, or as a parameter (wide value and gradient, narrow
/// copy).
enum class Taken : uint8_t { narrow, wide, parameter };

struct DeviceInput {
  Tensor value;  ///< f64
  Taken taken = Taken::narrow;
};

struct DeviceCase {
  std::string name;
  /// The op; `compute` is the type that it is run in.
  std::function<Variable(Tape&, const std::vector<Variable>&, DType compute)> op;
  std::vector<DeviceInput> inputs;
};

/// Value and gradients of the case's op on a device. The op is used twice on one tape, so that gradients are both
/// overwritten and accumulated, and those of expert stacks wait for each other.
inline std::vector<Tensor> run_on(const DeviceCase& c, DType compute, Device device) {
  std::vector<Parameter> parameters(c.inputs.size());
  Tape tape;
  std::vector<Variable> x;
  for (size_t i = 0; i < c.inputs.size(); ++i) {
    const DeviceInput& in = c.inputs[i];
    const Tensor narrow = in.value.to(Device::cpu(), compute).to(device);
    const Tensor wide = in.value.to(Device::cpu(), compute).to(Device::cpu(), wide_of(compute)).to(device);
    Parameter& p = parameters[i];
    p.value = wide;
    if (compute != wide_of(compute)) p.narrow = narrow;
    x.push_back(in.taken == Taken::parameter ? tape.parameter(p)
                                             : tape.leaf(in.taken == Taken::narrow ? narrow : wide));
  }
  const Variable first = c.op(tape, x, compute), second = c.op(tape, x, compute);
  const auto seed = [&](const Variable& y, uint64_t stream) {
    return random_tensor(y.shape(), 9000 + stream, 1, y.dtype()).to(device);
  };
  tape.backward_from({{first, seed(first, 0)}, {second, seed(second, 1)}});
  std::vector<Tensor> results = {first.value().to(Device::cpu())};
  for (size_t i = 0; i < x.size(); ++i) {
    const bool parameter = c.inputs[i].taken == Taken::parameter;
    results.push_back((parameter ? parameters[i].gradient : gradient_of(x[i])).to(Device::cpu()));
  }
  return results;
}

/// Spacing of a narrow format's numbers near 1.
inline double spacing_of(DType type) {
  return type == DType::bf16 ? 0x1p-7 : 0x1p-10;
}

/// In f32 and f64 sums differ in their order alone: roundings as in expect_close, many of them since a gate's gradient
/// is what little is left of hundreds of products of every sign (f32 on the CPU is up to 600 off f64). In a narrow
/// format both devices round the same values to the same places, but where sums differ in the last bit of a float a
/// result may become its neighbour, and tensor cores may drop bits of tf32 operands. These tensors are small, so that
/// few elements make up their norm, and some are what is left of sums that cancel: four spacings.
inline void expect_agrees(const std::vector<Tensor>& actual, const std::vector<Tensor>& expected, DType compute) {
  REQUIRE(actual.size() == expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    INFO((i == 0 ? "value" : "gradient of input "), i);
    REQUIRE(actual[i].shape() == expected[i].shape());
    if (compute == wide_of(compute)) {
      expect_close(actual[i], expected[i], 4096);
    } else {
      CHECK(relative_l2(actual[i], expected[i]) <= 4 * spacing_of(compute));
    }
  }
}

/// On CUDA, where there is a device, in every format. Memory goes back to the system after each, so that a tool sees
/// what each allocation really is.
inline void expect_same_on_cuda(const DeviceCase& c) {
  const OneThread quick;
  for (const DType compute : {DType::f64, DType::f32, DType::tf32, DType::bf16, DType::f16}) {
    INFO(c.name, " in ", name_of(compute));
    expect_agrees(run_on(c, compute, Device::cuda()), run_on(c, compute, Device::cpu()), compute);
    trim(Device::cuda());
  }
}

}  // namespace moeut::testing
