// Dropout and expert dropout where layers use them.
#include <numeric>

#include "layers/sigma_moe.h"
#include "tests/layers/tiny_model.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

ModelConfig dropping() {
  return tiny_config([](ModelConfig& c) {
    c.dropout = 0.2;
    c.ff_expert_dropout = 0.3;
    c.att_expert_dropout = 0.4;
  });
}

constexpr int64_t kSequences = 4, kTime = 5;

/// Adds the gradient of sequences [begin, begin + count) of a batch of four, whose first is number `first_sample` of
/// the run.
void add_gradient(MoeutLm& model, uint64_t seed, uint64_t first_sample, int64_t begin, int64_t count) {
  const Tensor tokens = random_ids({kSequences, kTime}, 13, 1).slice(begin, count);
  const Tensor targets = random_ids({kSequences, kTime}, 13, 2).slice(begin, count);
  Tape tape;
  ForwardContext context =
      ForwardContext::training(tape, seed, first_sample + static_cast<uint64_t>(begin), kSequences);
  const MoeutOutput out = model.forward(context, tokens);
  const auto ce = ops::cross_entropy(tape, out.outputs, targets, 1.0 / (kSequences * kTime));
  tape.backward({{ce.loss}, {out.reg_loss}});
}

/// The gradients of all parameters for a batch cut into micro-batches of these sizes.
std::vector<Tensor> gradients(MoeutLm& model, uint64_t seed, uint64_t first_sample, const std::vector<int64_t>& cut) {
  for (Parameter* p : model.parameters()) p->clear_gradient();
  int64_t begin = 0;
  for (const int64_t count : cut) {
    add_gradient(model, seed, first_sample, begin, count);
    begin += count;
  }
  std::vector<Tensor> all;
  for (Parameter* p : model.parameters()) all.push_back(p->gradient.clone());
  return all;
}

double worst_difference(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, relative_l2(a[i], b[i]));
  return worst;
}

}  // namespace

TEST_CASE("dropout in layers: the gradient does not depend on how the batch was cut") {
  MoeutLm model(dropping(), 3, kInF64);
  const std::vector<Tensor> whole = gradients(model, 7, 1000, {4});
  // Sums of a few dozen terms in another order: 1e-12 is 5000 roundings.
  CHECK(worst_difference(gradients(model, 7, 1000, {2, 2}), whole) <= 1e-12);
  CHECK(worst_difference(gradients(model, 7, 1000, {1, 3}), whole) <= 1e-12);
  CHECK(worst_difference(gradients(model, 7, 1000, {1, 1, 1, 1}), whole) <= 1e-12);
}

TEST_CASE("dropout in layers: the same seed and samples drop the same, others do not") {
  MoeutLm model(dropping(), 3, kInF64);
  const std::vector<Tensor> first = gradients(model, 7, 1000, {4});
  expect_same_bits(gradients(model, 7, 1000, {4}), first);
  CHECK(worst_difference(gradients(model, 8, 1000, {4}), first) > 1e-2);
  CHECK(worst_difference(gradients(model, 7, 1004, {4}), first) > 1e-2);
}

TEST_CASE("dropout in layers: each place of a pass draws numbers of its own, a new pass the same again") {
  Tape tape;
  ForwardContext context = ForwardContext::training(tape, 7, 0);
  const Variable ones(Tensor::from(std::vector<double>(64, 1.0), {1, 64}));
  std::vector<Tensor> passes[2];
  for (std::vector<Tensor>& places : passes) {
    context.begin_pass();
    for (int place = 0; place < 3; ++place) places.push_back(context.dropout(ones, 0.5).value());
  }
  expect_same_bits(passes[0], passes[1]);
  CHECK_FALSE(same_bits(passes[0][0], passes[0][1]));
  CHECK_FALSE(same_bits(passes[0][1], passes[0][2]));
}

TEST_CASE("dropout in layers: every kind has an effect, and none in evaluation") {
  const Tensor tokens = random_ids({kSequences, kTime}, 13, 1);
  MoeutLm plain(tiny_config(), 3, kInF64);
  const Tensor expected = logits_of(plain, tokens);
  const auto in_training = [&](MoeutLm& model) {
    Tape tape;
    ForwardContext context = ForwardContext::training(tape, 7, 0);
    return model.forward(context, tokens).outputs.value();
  };
  CHECK(same_bits(in_training(plain), expected));  // without dropout, training computes the same
  for (const auto kind : {&ModelConfig::dropout, &ModelConfig::ff_expert_dropout, &ModelConfig::att_expert_dropout}) {
    MoeutLm model(tiny_config([&](ModelConfig& c) { c.*kind = 0.5; }), 3, kInF64);
    CHECK(same_bits(logits_of(model, tokens), expected));
    CHECK(relative_l2(in_training(model), expected) > 1e-2);
  }
}

TEST_CASE("expert dropout: excluded experts fill only the places that are left, with their plain gates") {
  constexpr int64_t kExperts = 6, kChosen = 3, kTokens = 40;
  for (const double p : {0.4, 0.8, 0.999}) {
    CAPTURE(p);
    const ModelConfig config = tiny_config([&](ModelConfig& c) {
      c.ff_n_experts = kExperts;
      c.ff_k = kChosen;
      c.ff_expert_dropout = p;
    });
    SigmaMoe moe(config, "ffn", 3, kInF64);
    const Tensor r = random_tensor({2, kTokens, 8}, 1);
    Tape tape;
    ForwardContext context = ForwardContext::training(tape, 11, 50);
    RoutingTrace trace;
    context.record = &trace;
    const Variable y = moe.forward(context, Variable(random_tensor({2, kTokens, 8}, 2)), Variable(r));
    for (const double v : elements(y.value())) REQUIRE(std::isfinite(v));
    const std::vector<int32_t> chosen = trace.experts.at(0).to_vector<int32_t>();
    const RngState rng{.seed = 11, .first_sample = 50};
    for (uint64_t row = 0; row < 2 * kTokens; ++row) {
      double logit[kExperts] = {};
      bool excluded[kExperts];
      for (uint64_t e = 0; e < kExperts; ++e) {
        for (uint64_t d = 0; d < 8; ++d)
          logit[e] += r.data<double>()[row * 8 + d] * moe.expert_sel.value.data<double>()[e * 8 + d];
        // The layer's router is the first random site of the pass.
        const uint64_t element = row % kTokens * kExperts + e;
        excluded[e] = static_cast<double>(dropout_uniform(rng, row / kTokens, 0, element)) < p;
      }
      std::vector<int32_t> ranking(kExperts);
      std::iota(ranking.begin(), ranking.end(), 0);
      std::sort(ranking.begin(), ranking.end(),
                [&](int32_t a, int32_t b) { return excluded[a] != excluded[b] ? excluded[b] : logit[a] > logit[b]; });
      ranking.resize(kChosen);
      CHECK(std::vector<int32_t>(chosen.begin() + static_cast<int64_t>(row) * kChosen,
                                 chosen.begin() + static_cast<int64_t>(row + 1) * kChosen) == ranking);
    }
  }
}
