// Every op on operands in tf32, bf16 and fp16: the CPU, which rounds operands and results and sums in float, against
// float64 on the same operands; CUDA against the CPU.
#include "autograd/ops/add.h"
#include "autograd/ops/attention.h"
#include "autograd/ops/cross_entropy.h"
#include "autograd/ops/expert_ffn.h"
#include "autograd/ops/expert_output.h"
#include "autograd/ops/expert_value.h"
#include "autograd/ops/head_gate.h"
#include "autograd/ops/layer_norm.h"
#include "autograd/ops/linear.h"
#include "autograd/ops/linear_cross_entropy.h"
#include "autograd/ops/rope.h"
#include "tests/ops/op_testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

/// Spacing of numbers near 1.
double spacing(DType type) {
  return type == DType::bf16 ? 0x1p-7 : 0x1p-10;
}

/// An op with inputs that it takes in the narrow type, and others that it takes wide.
struct Case {
  const char* name;
  Op op;
  std::vector<Tensor> inputs;  // f64
  std::vector<bool> narrow;
};

const DType* narrow_out = nullptr;  // what an op that has no narrow input makes

std::vector<Case> cases() {
  const auto logits = logits_without_ties({2, 50, 20}, 5, 3);
  const auto route = [](Tape& tape, const Variable& l, int64_t heads) {
    return ops::route(tape, l, {.heads = heads, .k = 2});
  };
  return {
      {"linear",
       [](Tape& t, const std::vector<Variable>& x) { return ops::linear(t, x[0], x[1]); },
       {random_tensor({2, 30, 48}, 1), random_tensor({56, 48}, 2)},
       {true, true}},
      {"linear, wide output",
       [](Tape& t, const std::vector<Variable>& x) { return ops::linear(t, x[0], x[1], {}, ops::LinearOutput::wide); },
       {random_tensor({2, 30, 48}, 1), random_tensor({23, 48}, 2)},
       {true, true}},
      {"linear, bias",
       [](Tape& t, const std::vector<Variable>& x) { return ops::linear(t, x[0], x[1], x[2]); },
       {random_tensor({2, 30, 48}, 1), random_tensor({56, 48}, 2), random_tensor({56}, 3)},
       {true, true, false}},
      {"layer_norm",
       [](Tape& t, const std::vector<Variable>& x) {
         return ops::layer_norm(t, x[0], x[1], x[2], {.out = x[0].dtype() == DType::f32 ? *narrow_out : x[0].dtype()});
       },
       {random_tensor({3, 20, 96}, 1), random_tensor({96}, 2), random_tensor({96}, 3)},
       {false, false, false}},
      {"layer_norm_of_sum",
       [](Tape& t, const std::vector<Variable>& x) {
         const DType out = x[0].dtype() == DType::f32 ? *narrow_out : x[0].dtype();
         const ops::NormedSum sum = ops::layer_norm_of_sum(t, x[0], x[1], x[2], x[3], {.out = out});
         return ops::add(t, sum.narrow, sum.y);
       },
       {random_tensor({3, 20, 96}, 1), random_tensor({3, 20, 96}, 4), random_tensor({96}, 2), random_tensor({96}, 3)},
       {false, false, false, false}},
      {"rope",
       [](Tape& t, const std::vector<Variable>& x) {
         return ops::rope(t, x[0], {.heads = 4, .n_rotate = 16, .scale = 0.5});
       },
       {random_tensor({2, 30, 128}, 1)},
       {true}},
      {"attention",
       [](Tape& t, const std::vector<Variable>& x) { return ops::attention(t, x[0], x[1], x[2], 3, {.causal = true}); },
       {random_tensor({2, 70, 48}, 1, 0.5), random_tensor({2, 70, 48}, 2, 0.5), random_tensor({2, 70, 48}, 3)},
       {true, true, true}},
      {"head_gate",
       [](Tape& t, const std::vector<Variable>& x) { return ops::head_gate(t, x[0], x[1]); },
       {random_tensor({2, 50, 64}, 1), random_tensor({2, 50, 4}, 2)},
       {true, false}},
      {"expert_ffn",
       [=](Tape& t, const std::vector<Variable>& x) { return ops::expert_ffn(t, x[0], x[1], x[2], route(t, x[3], 1)); },
       {random_tensor({2, 90, 48}, 1), random_tensor({5, 48, 40}, 2, 0.2), random_tensor({5, 40, 48}, 3, 0.2),
        logits_without_ties({2, 90, 5}, 5, 4)},
       {true, true, true, false}},
      {"expert_value",
       [=](Tape& t, const std::vector<Variable>& x) { return ops::expert_value(t, x[0], x[1], 4, route(t, x[2], 4)); },
       {random_tensor({2, 50, 48}, 1), random_tensor({20, 48, 24}, 2, 0.2), logits},
       {true, true, false}},
      {"expert_output",
       [=](Tape& t, const std::vector<Variable>& x) { return ops::expert_output(t, x[0], x[1], 4, route(t, x[2], 4)); },
       {random_tensor({2, 50, 96}, 1), random_tensor({20, 24, 48}, 2, 0.2), logits},
       {true, true, false}},
      {"cross_entropy",
       [](Tape& t, const std::vector<Variable>& x) {
         return ops::cross_entropy(t, x[0], random_ids({2, 40}, 300, 2).to(x[0].device()), 1.0 / 80).loss;
       },
       {random_tensor({2, 40, 300}, 1)},
       {true}},
      {"linear_cross_entropy",
       [](Tape& t, const std::vector<Variable>& x) {
         return ops::linear_cross_entropy(t, x[0], x[1], {}, random_ids({2, 40}, 56, 2).to(x[0].device()),
                                          {.scale = 1.0 / 80})
             .loss;
       },
       {random_tensor({2, 40, 48}, 1), random_tensor({56, 48}, 2, 0.2)},
       {true, true}},
  };
}

/// The inputs in `type` where the op takes them narrow, and wide otherwise; all of them rounded to `type` or f32
/// before.
std::vector<Tensor> typed(const Case& c, DType narrow, DType wide) {
  std::vector<Tensor> all;
  for (size_t i = 0; i < c.inputs.size(); ++i)
    all.push_back(c.inputs[i].to(Device::cpu(), c.narrow[i] ? narrow : wide));
  return all;
}
std::vector<Tensor> exact(const Case& c, DType narrow) {
  std::vector<Tensor> all;
  for (const Tensor& t : typed(c, narrow, DType::f32)) all.push_back(t.to(Device::cpu(), DType::f64));
  return all;
}

}  // namespace

// A value goes through a few roundings of half a spacing each, at random: relative L2 errors of about a spacing.
TEST_CASE("narrow operands: the CPU is as near to float64 as its roundings let it") {
  for (DType type : {DType::tf32, DType::bf16, DType::f16}) {
    narrow_out = &type;
    for (const Case& c : cases()) {
      INFO(c.name, " in ", name_of(type));
      const auto expected = value_and_gradients(c.op, exact(c, type));
      const auto actual = value_and_gradients(c.op, typed(c, type, DType::f32));
      REQUIRE(actual.size() == expected.size());
      for (size_t i = 0; i < actual.size(); ++i) {
        INFO("result ", i);
        CHECK(relative_l2(actual[i], expected[i]) <= 2 * spacing(type));
      }
      expect_same_bits(value_and_gradients(c.op, typed(c, type, DType::f32)), actual);
    }
  }
}

// Both round the same values to the same places; where their sums differ in the last bit of a float, a result may round
// to the neighbour. Tensor cores may drop bits of tf32 operands where the CPU rounds.
TEST_CASE("narrow operands: CUDA against the CPU") {
  if (cuda_device_count() == 0) return;
  for (DType type : {DType::tf32, DType::bf16, DType::f16}) {
    narrow_out = &type;
    for (const Case& c : cases()) {
      INFO(c.name, " in ", name_of(type));
      const auto here = typed(c, type, DType::f32);
      std::vector<Tensor> there;
      for (const Tensor& t : here) there.push_back(t.to(Device::cuda()));
      const auto expected = value_and_gradients(c.op, here), actual = value_and_gradients(c.op, there);
      for (size_t i = 0; i < actual.size(); ++i) {
        INFO("result ", i);
        CHECK(relative_l2(actual[i].to(Device::cpu()), expected[i]) <= spacing(type));
      }
      expect_same_bits(value_and_gradients(c.op, there), actual);
    }
  }
}
