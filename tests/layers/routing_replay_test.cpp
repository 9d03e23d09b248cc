// Experts of one pass forced upon another: what a comparison of precisions needs.
#include "tests/layers/tiny_model.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

struct Pass {
  std::vector<Tensor> results;  ///< logits, reg_loss and all gradients
  RoutingTrace trace;
};

Pass train_pass(MoeutLm& model, const RoutingTrace* replay) {
  Pass pass;
  for (Parameter* p : model.parameters()) p->clear_gradient();
  Tape tape;
  ForwardContext context = ForwardContext::training(tape, 7, 0);
  context.record = &pass.trace;
  context.replay = replay;
  const MoeutOutput out = model.forward(context, random_ids({2, 5}, 13, 1));
  const auto ce = ops::cross_entropy(tape, out.outputs, random_ids({2, 5}, 13, 2), 0.1);
  tape.backward({{ce.loss}, {out.reg_loss}});
  pass.results = {out.outputs.value(), out.reg_loss.value()};
  for (Parameter* p : model.parameters()) pass.results.push_back(p->gradient.clone());
  return pass;
}

/// The same parameters up to rounding.
void copy_parameters(MoeutLm& from, MoeutLm& to) {
  const std::vector<Parameter*> a = from.parameters(), b = to.parameters();
  for (size_t i = 0; i < a.size(); ++i) b[i]->value.copy_from(a[i]->value.to(Device::cpu(), b[i]->value.dtype()));
}

}  // namespace

TEST_CASE("routing replay: the pass's own experts give the same bits") {
  MoeutLm model(tiny_config(), 3, kInF64);
  const Pass first = train_pass(model, nullptr);
  CHECK(first.trace.experts.size() == 3 * 4);  // value, output and ffn router of four applications
  const Pass again = train_pass(model, &first.trace);
  expect_same_bits(again.results, first.results);
  expect_same_bits(again.trace.experts, first.trace.experts);
}

TEST_CASE("routing replay: float32 on float64's experts differs by rounding alone") {
  MoeutLm model(tiny_config(), 3, {.dtype = DType::f32});
  MoeutLm reference(tiny_config(), 3, kInF64);
  copy_parameters(model, reference);
  const Pass expected = train_pass(reference, nullptr);
  const Pass actual = train_pass(model, &expected.trace);
  expect_same_bits(actual.trace.experts, expected.trace.experts);
  // A chain of about 50 operations on sums of some ten terms: a few hundred roundings of 6e-8.
  for (size_t i = 0; i < actual.results.size(); ++i) {
    INFO("result ", i);
    CHECK(relative_l2(actual.results[i], expected.results[i]) <= 2e-5);
  }
}

TEST_CASE("routing replay: other experts are really taken") {
  MoeutLm model(tiny_config(), 3, kInF64);
  const Pass own = train_pass(model, nullptr);
  RoutingTrace other = own.trace;
  other.experts[2] = other.experts[2].clone();  // the first application's ffn router
  int32_t& id = other.experts[2].data<int32_t>()[0];
  const int32_t second = other.experts[2].data<int32_t>()[1];
  for (int32_t e = 0; e < 5; ++e) {
    if (e != id && e != second) {
      id = e;
      break;
    }
  }
  const Pass forced = train_pass(model, &other);
  expect_same_bits(forced.trace.experts, other.experts);
  CHECK(relative_l2(forced.results[0], own.results[0]) > 1e-4);
}

TEST_CASE("routing replay: errors") {
  MoeutLm model(tiny_config(), 3, kInF64);
  RoutingTrace trace = train_pass(model, nullptr).trace;
  trace.experts.pop_back();
  CHECK_THROWS_WITH_AS(train_pass(model, &trace), "routing: the trace to replay ends after 11 router calls",
                       ShapeError);
  trace.experts[1] = Tensor::zeros({3, 2}, DType::i32);
  CHECK_THROWS_WITH_AS(train_pass(model, &trace), "route: forced experts i32 (3, 2) on cpu should be (rows=20, k=2)",
                       ShapeError);
}
