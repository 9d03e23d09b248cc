// Masks: together, alone, neither; and queries that see nothing.
#include "layers/switch_head.h"
#include "tests/layers/tiny_model.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

constexpr int64_t kBatch = 2, kTime = 4;

const Tensor kPadding = mask_from({0, 0, 1, 1, 1, 0, 0, 0}, {kBatch, kTime});
const Tensor kPositions = mask_from({0, 1, 1, 1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 1, 0}, {kTime, kTime});

/// Both masks written out as one (B, Tq, Tk); an undefined one removes nothing.
Tensor written_out(const Tensor& padding, const Tensor& positions) {
  Tensor all = Tensor::zeros({kBatch, kTime, kTime}, DType::u8);
  for (int64_t b = 0; b < kBatch; ++b) {
    for (int64_t i = 0; i < kTime; ++i) {
      for (int64_t j = 0; j < kTime; ++j) {
        const bool removed = (padding.defined() && padding.data<uint8_t>()[b * kTime + j]) ||
                             (positions.defined() && positions.data<uint8_t>()[i * kTime + j]);
        all.data<uint8_t>()[(b * kTime + i) * kTime + j] = removed ? 1 : 0;
      }
    }
  }
  return all;
}

struct Bodies {
  Moeut switch_head{tiny_config(), 5, kInF64};
  Moeut dense{tiny_config([](ModelConfig& c) { c.att_n_experts = 1; }), 5, kInF64};
  Tensor x = random_tensor({kBatch, kTime, 8}, 1);

  Tensor run(Moeut& body, const AttentionMask& mask) const {
    Tape tape(Tape::Recording::off);
    ForwardContext context(tape);
    return body.forward(context, Variable(x), mask).outputs.value();
  }
};

}  // namespace

TEST_CASE("masks: each form equals the removals written out") {
  Bodies bodies;
  for (Moeut* body : {&bodies.switch_head, &bodies.dense}) {
    const Tensor none = bodies.run(*body, {});
    CHECK(same_bits(none, bodies.run(*body, {.position_mask = written_out({}, {})})));
    const Tensor padding = bodies.run(*body, {.src_length_mask = kPadding});
    CHECK(same_bits(padding, bodies.run(*body, {.position_mask = written_out(kPadding, {})})));
    const Tensor positions = bodies.run(*body, {.position_mask = kPositions});
    CHECK(same_bits(positions, bodies.run(*body, {.position_mask = written_out({}, kPositions)})));
    const Tensor both = bodies.run(*body, {.src_length_mask = kPadding, .position_mask = kPositions});
    CHECK(same_bits(both, bodies.run(*body, {.position_mask = written_out(kPadding, kPositions)})));
    CHECK(relative_l2(none, padding) > 1e-3);
    CHECK(relative_l2(padding, both) > 1e-3);
    CHECK(relative_l2(positions, both) > 1e-3);
  }
}

/// Tokens 0, 1 and 2, 3 are a document each.
const Tensor kDocuments = Tensor::from<int32_t>({0, 0, 2, 2, 0, 0, 2, 2}, {kBatch, kTime});

TEST_CASE("masks: first_key equals the removals written out, and shuts documents off from each other") {
  Bodies bodies;
  const AttentionMask documents{.first_key = kDocuments, .causal = true};
  const Tensor other_document = mask_from({0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0}, {kTime, kTime});
  for (Moeut* body : {&bodies.switch_head, &bodies.dense}) {
    const Tensor value = bodies.run(*body, documents);
    CHECK(relative_l2(value, bodies.run(*body, {.position_mask = other_document, .causal = true})) <= 1e-15);
    CHECK(relative_l2(value, bodies.run(*body, {.causal = true})) > 1e-3);
    // What the second document gives back to the first one's inputs: exactly nothing.
    Tape tape;
    ForwardContext context(tape);
    const Variable x = tape.leaf(bodies.x);
    const Variable y = body->forward(context, x, documents).outputs;
    Tensor upstream = random_tensor(y.shape(), 9);
    for (int64_t b = 0; b < kBatch; ++b) std::fill_n(upstream.data<double>() + b * kTime * 8, 2 * 8, 0.0);
    tape.backward_from({{y, upstream}});
    for (int64_t b = 0; b < kBatch; ++b) {
      for (int64_t d = 0; d < kTime * 8; ++d) {
        const double gradient = x.gradient().data<double>()[b * kTime * 8 + d];
        CHECK((gradient == 0) == (d < 2 * 8));
      }
    }
  }
}

TEST_CASE("masks: another first document leaves the second one's logits alone") {
  const Tensor tokens = Tensor::from<int32_t>({1, 2, 3, 4, 5, 6, 7, 8}, {kBatch, kTime});
  const Tensor changed = Tensor::from<int32_t>({9, 10, 3, 4, 11, 12, 7, 8}, {kBatch, kTime});
  for (const int64_t att_n_experts : {1, 3}) {
    for (const DType type : {DType::f32, DType::f64}) {
      MoeutLm model(tiny_config([&](ModelConfig& c) { c.att_n_experts = att_n_experts; }), 5, {.dtype = type});
      const MoeutLm::Options options{.mask = AttentionMask{.first_key = kDocuments, .causal = true}};
      const Tensor before = logits_of(model, tokens, options), after = logits_of(model, changed, options);
      for (int64_t b = 0; b < kBatch; ++b) {
        const auto second = [&](const Tensor& logits) { return logits.slice(b, 1).reshape({kTime, 13}).slice(2, 2); };
        const auto first = [&](const Tensor& logits) { return logits.slice(b, 1).reshape({kTime, 13}).slice(0, 2); };
        CHECK(relative_l2(second(after), second(before)) <= (type == DType::f64 ? 1e-12 : 1e-6));
        CHECK(relative_l2(first(after), first(before)) > 1e-3);
      }
    }
  }
}

TEST_CASE("masks: a removed key has no influence at all") {
  Bodies bodies;
  const Tensor before = bodies.run(bodies.switch_head, {.src_length_mask = kPadding});
  for (int64_t d = 0; d < 8; ++d) bodies.x.data<double>()[3 * 8 + d] = 1000;  // sequence 0, token 3: padding
  const Tensor after = bodies.run(bodies.switch_head, {.src_length_mask = kPadding});
  // Not bit by bit: the changed token may choose other experts, and rows then meet other neighbours in a product.
  CHECK(relative_l2(after.reshape({8, 8}).slice(0, 3), before.reshape({8, 8}).slice(0, 3)) <= 1e-13);
  CHECK(relative_l2(after.slice(1, 1), before.slice(1, 1)) <= 1e-13);
}

TEST_CASE("masks: the language model is causal unless told otherwise") {
  MoeutLm model(tiny_config(), 5, kInF64);
  const Tensor tokens = random_ids({kBatch, kTime}, 13, 1);
  const Tensor triangle = mask_from({0, 1, 1, 1, 0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0}, {kTime, kTime});
  const Tensor causal = logits_of(model, tokens);
  CHECK(same_bits(causal, logits_of(model, tokens, {.mask = AttentionMask{.position_mask = triangle}})));
  // A mask replaces the default: with no removals every token sees the whole sequence.
  CHECK(relative_l2(logits_of(model, tokens, {.mask = AttentionMask{}}), causal) > 1e-3);
}

TEST_CASE("masks: a query whose keys are all removed attends to nothing") {
  const Tensor padding = mask_from({1, 1, 1, 1, 0, 0, 0, 0}, {kBatch, kTime});
  const Tensor positions = mask_from({0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0}, {kTime, kTime});
  for (const int64_t att_experts : {1, 3}) {
    const auto attention =
        make_attention(tiny_config([&](ModelConfig& c) { c.att_n_experts = att_experts; }), "a", 5, kInF64);
    Tape tape;
    ForwardContext context = ForwardContext::training(tape, 1, 0);
    const Variable x = tape.leaf(random_tensor({kBatch, kTime, 8}, 1));
    const Variable y =
        attention->forward(context, {x, x, x}, {.src_length_mask = padding, .position_mask = positions}, nullptr);
    for (int64_t row = 0; row < kBatch * kTime; ++row) {
      CAPTURE(row);
      const bool sees_nothing = row < kTime || row == kTime + 1;
      const std::vector<double> result = elements(y.value().reshape({8, 8}).slice(row, 1));
      CHECK((result == std::vector<double>(8, 0.0)) == sees_nothing);
    }
    tape.backward_from({{y, random_tensor(y.shape(), 2)}});
    for (const double g : elements(x.gradient())) CHECK(std::isfinite(g));
    CHECK(elements(x.gradient().slice(0, 1)) == std::vector<double>(kTime * 8, 0.0));
  }
}

TEST_CASE("masks: all of them removed, a whole training pass stays finite") {
  MoeutLm model(tiny_config(), 5, kInF64);
  Tape tape;
  ForwardContext context = ForwardContext::training(tape, 1, 0);
  const Tensor everything = mask_from(std::vector<uint8_t>(kBatch * kTime, 1), {kBatch, kTime});
  const MoeutOutput out = model.forward(context, random_ids({kBatch, kTime}, 13, 1),
                                        {.mask = AttentionMask{.src_length_mask = everything}, .cache = nullptr});
  const auto ce = ops::cross_entropy(tape, out.outputs, random_ids({kBatch, kTime}, 13, 2), 0.125);
  tape.backward({{ce.loss}, {out.reg_loss}});
  CHECK(std::isfinite(ce.loss.value().item()));
  model.visit_parameters([](Parameter& p) {
    CAPTURE(p.name);
    for (const double g : elements(p.gradient)) REQUIRE(std::isfinite(g));
  });
}

TEST_CASE("masks: errors") {
  Bodies bodies;
  CHECK_THROWS_WITH_AS(bodies.run(bodies.dense, {.src_length_mask = mask_from({0, 0, 0, 0}, {1, 4})}),
                       "attention: src_length_mask u8 (1, 4) on cpu should be u8 (B=2, Tk=4)", ShapeError);
  // Narrower than the keys is an offer to see the cache; without one it is a mistake.
  CHECK_THROWS_WITH_AS(bodies.run(bodies.dense, {.position_mask = Tensor::zeros({4, 3}, DType::u8)}),
                       "attention: position_mask u8 (4, 3) on cpu should be u8 (Tq=4, Tk=4) or (B=2, Tq=4, Tk=4)",
                       ShapeError);
}
