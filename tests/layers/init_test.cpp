// Initialisation: the six profiles against moeut.md's rules, and its independence of everything but seed and name.
#include "layers/init.h"

#include <omp.h>

#include <cstdlib>

#include "core/memory.h"
#include "layers/switch_head.h"
#include "tests/layers/tiny_model.h"
#include "tests/sanitized.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

// A sanitizer or -O0 makes the large profiles take minutes and shows nothing that the small ones do not.
std::vector<std::string> profiles() {
#ifdef __OPTIMIZE__
  if (!kSanitized) return profile_names();
#endif
  return {"44M"};
}

/// Layers of a profile differ in their random stream alone: the first stands for all, unless everything is asked for.
int64_t layers_to_check(const ModelConfig& c) {
  return std::getenv("MOEUT_FULL_TESTS") != nullptr ? c.group_size : 1;
}

struct Moments {
  double mean = 0, std = 0;
};

Moments moments_of(const Tensor& t) {
  const float* x = t.data<float>();
  double sum = 0, squares = 0;
#pragma omp parallel for reduction(+ : sum, squares)
  for (int64_t i = 0; i < t.size(); ++i) {  // 1B has tensors of 10^8 elements
    const double v = static_cast<double>(x[i]);
    sum += v;
    squares += v * v;
  }
  const double n = static_cast<double>(t.size()), mean = sum / n;
  return {mean, std::sqrt(squares / n - mean * mean)};
}

/// Standard deviation within 2 %, mean within five of its standard errors. The smallest tensor that is initialised at
/// random (sel_v of 44M, 13184 elements) has a sampling error of 0.6 %.
void expect_normal(const Parameter& p, double std) {
  CAPTURE(p.name);
  const Moments m = moments_of(p.value);
  expect_near(m.std, std, 0.02);
  CHECK(std::abs(m.mean) <= 5 * std / std::sqrt(static_cast<double>(p.value.size())));
}

double norm_of_row(const Tensor& t, int64_t row) {
  const int64_t d = t.shape().row_size();
  double squares = 0;
  for (int64_t i = 0; i < d; ++i) squares += std::pow(static_cast<double>(t.data<float>()[row * d + i]), 2);
  return std::sqrt(squares);
}

void expect_equal_row_norms(const Parameter& p) {
  CAPTURE(p.name);
  const double first = norm_of_row(p.value, 0);
  for (int64_t r = 1; r < p.value.shape().rows(); ++r) expect_near(norm_of_row(p.value, r), first, 1e-5);
}

/// The rule for layer g, one module in memory at a time.
void check_layer(const ModelConfig& c, int64_t g) {
  const std::string name = "transformer.layers." + std::to_string(g);
  const double a = std::sqrt(2.0 / static_cast<double>(c.n_layers)), d = static_cast<double>(c.d_model);
  {
    SwitchHead attention(c, name + ".attention", 1, {});
    for (const Parameter* p :
         {&attention.q.weight, &attention.k.weight, &attention.v, &attention.sel_v, &attention.sel_o}) {
      expect_normal(*p, a / std::sqrt(d));
    }
    expect_normal(attention.o, a / std::sqrt(static_cast<double>(c.n_heads * c.head_dim())));
  }
  SigmaMoe ffn(c, name + ".ffn", 1, {});
  expect_normal(ffn.keys, a / std::sqrt(d));
  expect_normal(ffn.values, a / std::sqrt(static_cast<double>(c.ff_n_experts * c.ff_expert_size)));
  expect_normal(ffn.expert_sel, a / std::sqrt(d));
  expect_equal_row_norms(ffn.expert_sel);
}

/// Embedding, norms and head: the model with nothing between them.
void check_ends(ModelConfig c) {
  c.n_layers = c.group_size = c.ff_n_experts = c.ff_k = c.ff_expert_size = c.att_n_experts = 1;
  MoeutLm model(c, 1);
  const double bound = 1 / std::sqrt(static_cast<double>(c.d_model));
  expect_normal(model.embedding.weight, bound);
  for (const Parameter* p : {&model.lm_head.weight, &model.lm_head.bias}) {
    CAPTURE(p->name);
    const auto [smallest, largest] =
        std::minmax_element(p->value.data<float>(), p->value.data<float>() + p->value.size());
    const double low = static_cast<double>(*smallest), high = static_cast<double>(*largest);
    CHECK(low >= -bound * (1 + 1e-6));  // the bound itself is rounded to float32
    CHECK(high <= bound * (1 + 1e-6));
    CHECK(low < -0.99 * bound);
    CHECK(high > 0.99 * bound);
    expect_near(moments_of(p->value).std, bound / std::sqrt(3.0), 0.02);
  }
  const MoeutLayer& layer = *model.transformer.layers[0];
  for (const LayerNorm* norm : std::initializer_list<const LayerNorm*>{&model.out_norm, &layer.ln1, &layer.ln2}) {
    CHECK(elements(norm->weight.value) == std::vector<double>(static_cast<size_t>(c.d_model), 1.0));
    CHECK(elements(norm->bias.value) == std::vector<double>(static_cast<size_t>(c.d_model), 0.0));
  }
}

Parameter matrix(const std::string& name, const Shape& shape, const Tensor& value = {}) {
  return {.name = name, .value = value.defined() ? value : Tensor::empty(shape, DType::f64)};
}

}  // namespace

TEST_CASE("init: every tensor of the six profiles follows its rule") {
  for (const std::string& name : profiles()) {
    CAPTURE(name);
    const ModelConfig c = profile(name);
    check_ends(c);
    for (int64_t g = 0; g < layers_to_check(c); ++g) {
      CAPTURE(g);
      check_layer(c, g);
      trim(Device::cpu());  // blocks of this profile's sizes serve no other
    }
  }
}

TEST_CASE("init: the dense attention follows the same rules") {
  ModelConfig c = profile("44M");
  c.att_n_experts = 1;
  DenseAttention attention(c, "a", 1, {});
  const double a = std::sqrt(2.0 / 16), in = a / std::sqrt(412.0);
  for (const Parameter* p : {&attention.q.weight, &attention.k.weight, &attention.v}) expect_normal(*p, in);
  expect_normal(attention.o, a / std::sqrt(4 * 82.0));
  // 1648 elements: five standard errors of a sample's deviation, 1 / √(2n), are 9 %.
  expect_near(moments_of(attention.sel_o.value).std, in, 5 / std::sqrt(2 * 1648.0));
}

TEST_CASE("init: equalize_row_norms by hand") {
  // Unit rows (0.6, 0.8) and (0, 1); their unbiased deviation is rescaled to that of the four numbers before.
  Parameter p = matrix("p", {2, 2}, f64({3, 4, 0, 2}, {2, 2}));
  equalize_row_norms(p);
  const double before = std::sqrt((0.75 * 0.75 + 1.75 * 1.75 + 2.25 * 2.25 + 0.25 * 0.25) / 3);
  const double unit = std::sqrt((0.0 + 0.2 * 0.2 + 0.6 * 0.6 + 0.4 * 0.4) / 3);
  expect_close(p.value, {0.6 * before / unit, 0.8 * before / unit, 0, before / unit});
}

TEST_CASE("init: normalize_rows_keep_row_std by hand") {
  // The deviations of the rows (3, 4) and (0, 2) are √½ and √2.
  Parameter p = matrix("p", {2, 2}, f64({3, 4, 0, 2}, {2, 2}));
  normalize_rows_keep_row_std(p);
  const double unit = std::sqrt((0.0 + 0.2 * 0.2 + 0.6 * 0.6 + 0.4 * 0.4) / 3);
  expect_close(p.value, {0.6 * std::sqrt(0.5) / unit, 0.8 * std::sqrt(0.5) / unit, 0, std::sqrt(2.0) / unit});
}

TEST_CASE("init: numbers are a function of seed, name and place alone") {
  Parameter a = matrix("a", {100, 123}), again = matrix("a", {100, 123}), other = matrix("b", {100, 123}),
            longer = matrix("a", {200, 123});
  init_normal(a, 1, 7);
  omp_set_num_threads(3);
  init_normal(again, 1, 7);
  omp_set_num_threads(omp_get_num_procs());
  init_normal(longer, 1, 7);
  CHECK(same_bits(a.value, again.value));
  CHECK(same_bits(a.value, longer.value.slice(0, 100)));
  init_normal(again, 1, 8);
  init_normal(other, 1, 7);
  for (const Tensor* different : {&again.value, &other.value}) {
    double product = 0;  // uncorrelated: a sum of n products of normal numbers has the deviation √n
    for (int64_t i = 0; i < a.value.size(); ++i) product += a.value.data<double>()[i] * different->data<double>()[i];
    CHECK(std::abs(product) < 5 * std::sqrt(static_cast<double>(a.value.size())));
  }
}

TEST_CASE("init: normal numbers are normal, and neighbours have nothing in common") {
  Parameter p = matrix("a", {100, 124});
  init_normal(p, 2, 7);
  const double* x = p.value.data<double>();
  const auto n = static_cast<double>(p.value.size());
  double fourth = 0, neighbours = 0, next_but_one = 0;
  for (int64_t i = 0; i < p.value.size(); ++i) fourth += std::pow(x[i] / 2, 4) / n;
  for (int64_t i = 2; i < p.value.size(); ++i) {
    neighbours += x[i] * x[i - 1] / 4;
    next_but_one += x[i] * x[i - 2] / 4;
  }
  // Five deviations: x⁴ has the mean 3 and the variance 96, a product of two the mean 0 and the variance 1.
  CHECK(std::abs(fourth - 3) < 5 * std::sqrt(96 / n));
  CHECK(std::abs(neighbours) < 5 * std::sqrt(n));
  CHECK(std::abs(next_but_one) < 5 * std::sqrt(n));
}

TEST_CASE("init: float32 holds float64's numbers, rounded") {
  Parameter wide = matrix("a", {3, 5}), narrow{.name = "a", .value = Tensor::empty({3, 5}, DType::f32)};
  init_normal(wide, 0.3, 7);
  init_normal(narrow, 0.3, 7);
  CHECK(same_bits(wide.value.to(Device::cpu(), DType::f32), narrow.value));
  init_uniform(wide, 0.3, 7);
  init_uniform(narrow, 0.3, 7);
  CHECK(same_bits(wide.value.to(Device::cpu(), DType::f32), narrow.value));
}
