#include "kernels/optimizer.h"

#include "tests/kernels/kernel_testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

/// A parameter with its moments, all sizes of which the kernel sees.
template <class T>
struct Parameter {
  std::vector<T> value, gradient, exp_avg, exp_avg_sq;
  bool decay = true;

  Parameter(int64_t n, uint64_t stream)
      : value(random_values<T>(n, stream)),
        gradient(random_values<T>(n, stream + 1, 0.1)),
        exp_avg(random_values<T>(n, stream + 2, 0.1)),
        exp_avg_sq(static_cast<size_t>(n), T(0.01)) {}
  kernels::AdamWTensor<T> tensor() {
    return {value.data(), gradient.data(), exp_avg.data(), exp_avg_sq.data(), static_cast<int64_t>(value.size()),
            decay};
  }
};

struct Step {
  kernels::AdamWRule rule;
  double lr = 0;
  int64_t number = 1;
  double gradient_scale = 1;  // asked for by a loss scale
};

/// Decides and makes one update.
template <class T>
void make(const Step& step, const std::vector<kernels::AdamWTensor<T>>& tensors) {
  kernels::AdamWRule rule = step.rule;
  rule.scaled = true;
  kernels::StepScalars scalars{.lr = step.lr, .updates = step.number - 1, .scaler = {.scale = 1 / step.gradient_scale}};
  float scale = 0;
  kernels::decide_update(Cpu{}, Launch{}, rule, &scalars, &scale);
  CHECK(scalars.updates == step.number);
  kernels::adamw<T>(Cpu{}, Launch{}, tensors, rule, &scalars);
}

template <class T>
std::vector<T> update(Parameter<T> a, Parameter<T> b, const Step& step) {
  make<T>(step, {a.tensor(), b.tensor()});
  return joined(joined(a.value, a.exp_avg), joined(a.exp_avg_sq, b.value));
}

template <class T>
double norm(const std::vector<std::vector<T>>& gradients) {
  std::vector<kernels::NormTensor<T>> tensors;
  for (const auto& g : gradients) tensors.push_back({g.data(), static_cast<int64_t>(g.size())});
  Workspace workspace(kernels::squared_norm_workspace_bytes<T>(Cpu{}, tensors));
  double result = std::numeric_limits<double>::quiet_NaN();
  kernels::squared_norm<T>(Cpu{}, workspace, tensors, &result);
  return result;
}

}  // namespace

// The trajectory of PyTorch's AdamW (lr 0.01, betas 0.9 / 0.999, eps 1e-8, weight decay 0.1), computed in NumPy in
// float64 by its single-tensor order: decay, lerp of the first moment, second moment, √v / √(1-β2^t) + eps, addcdiv.
TEST_CASE_TEMPLATE("adamw: three steps of PyTorch's rule", T, float, double) {
  const std::vector<std::vector<double>> gradients{{0.3, -0.2, 1e-3}, {-0.1, -0.4, 2.0}, {0.05, 0.0, -1.0}};
  const std::vector<std::vector<double>> expected{{0.4895000003333333, -1.2387500005, 1.988000099999},
                                                  {0.48500831479247475, -1.2278594305464539, 1.978567384029913},
                                                  {0.480469052662111, -1.2191706863713085, 1.9743000981507832}};
  Parameter<T> p(3, 0);
  p.value = {0.5, -1.25, 2.0};
  p.exp_avg = p.exp_avg_sq = {0, 0, 0};
  for (size_t t = 0; t < 3; ++t) {
    for (size_t i = 0; i < 3; ++i) p.gradient[i] = static_cast<T>(gradients[t][i] * 4);
    make<T>({{.weight_decay = 0.1}, 0.01, static_cast<int64_t>(t) + 1, 0.25}, {p.tensor()});
    CHECK(relative_error(p.value, expected[t]) < 2 * kEpsilon<T>);
  }
  CHECK(relative_error(p.exp_avg, {0.0203, -0.0522, 0.080081}) < 4 * kEpsilon<T>);
  CHECK(relative_error(p.exp_avg_sq, {0.00010231009, 0.00019976004, 0.004996000998001}) < 4 * kEpsilon<T>);
}

TEST_CASE_TEMPLATE("adamw: decay only where asked, zero gradients and sizes", T, float, double) {
  Parameter<T> decayed(5, 10), kept(5, 10), empty(0, 20);
  for (Parameter<T>* p : {&decayed, &kept}) p->gradient = p->exp_avg = p->exp_avg_sq = std::vector<T>(5, T(0));
  kept.decay = false;
  const auto before = kept.value;
  make<T>({{.weight_decay = 0.5}, 0.5}, {decayed.tensor(), empty.tensor(), kept.tensor()});
  CHECK(kept.value == before);  // 0 / (0 + eps) is 0
  for (size_t i = 0; i < 5; ++i) CHECK(decayed.value[i] == before[i] * T(0.75));
}

TEST_CASE_TEMPLATE("adamw: whole blocks and tails against float64, the same bits on any number of threads", T, float,
                   double) {
  const Parameter<T> a(40001, 1), b(7, 5);
  const Step step{{.beta1 = 0.8, .beta2 = 0.95, .eps = 1e-6, .weight_decay = 0.01}, 1e-2, 9, 0.3};
  const auto got = same_on_any_threads([&] { return update(a, b, step); });
  std::vector<double> expected;
  const auto reference = [&](const Parameter<T>& p, int what) {
    for (size_t i = 0; i < p.value.size(); ++i) {
      const double g = 0.3 * static_cast<double>(p.gradient[i]), m = 0.8 * static_cast<double>(p.exp_avg[i]) + 0.2 * g;
      const double v = 0.95 * static_cast<double>(p.exp_avg_sq[i]) + 0.05 * g * g;
      const double value = static_cast<double>(p.value[i]) * (1 - 1e-4) -
                           1e-2 / (1 - std::pow(0.8, 9)) * m / (std::sqrt(v) / std::sqrt(1 - std::pow(0.95, 9)) + 1e-6);
      expected.push_back(what == 0 ? value : what == 1 ? m : v);
    }
  };
  for (int what : {0, 1, 2}) reference(a, what);
  reference(b, 0);
  CHECK(relative_error(got, expected) < 2 * kEpsilon<T>);
}

TEST_CASE_TEMPLATE("adamw: the narrow copy is the rounded value, and a step not updated touches nothing", T, float,
                   double) {
  Parameter<T> p(20000, 3);
  std::vector<BFloat16> bf16(p.value.size());
  std::vector<Float16> f16(p.value.size());
  kernels::AdamWTensor<T> a = p.tensor(), b = p.tensor();
  a.narrow = bf16.data();
  make<T>({{}, 0.01}, {a});
  b.narrow = f16.data();
  b.narrow_type = DType::f16;
  make<T>({{}, 0.01}, {b});
  a.narrow = nullptr;
  Parameter<T> twice(20000, 3);
  make<T>({{}, 0.01}, {twice.tensor()});
  size_t wrong = 0;
  for (size_t i = 0; i < bf16.size(); ++i) {
    wrong += bf16[i].bits != BFloat16(static_cast<float>(twice.value[i])).bits;
    wrong += f16[i].bits != Float16(static_cast<float>(p.value[i])).bits;
  }
  CHECK(wrong == 0);
  const auto before = p.value;
  const kernels::StepScalars refused{.updated = 0};
  kernels::adamw<T>(Cpu{}, Launch{}, std::vector{b}, {}, &refused);
  CHECK(p.value == before);
}

TEST_CASE("decide: clipping, sums of losses, what is not finite") {
  kernels::StepScalars s{.lr = 0.1, .running_loss = 3, .running_reg_loss = -1, .squared_norm = 25};
  kernels::decide(s, {.grad_clip = 2});
  CHECK(s.loss == 3);
  CHECK(s.reg_loss == -1);
  CHECK(s.running_loss == 0);
  CHECK(s.grad_norm == 5);
  CHECK(s.gradient_scale == 2 / (5 + 1e-6));
  CHECK(s.updates == 1);
  s.running_loss = std::numeric_limits<double>::infinity();
  kernels::decide(s, {});
  CHECK(s.updated == 0);
  CHECK(s.refused == 2);
  CHECK(s.bad.count == 1);
  kernels::decide(s, {});  // finite, but after a refused step nothing is updated
  CHECK(s.updated == 0);
  CHECK(s.refused == 2);
  CHECK(s.updates == 1);
}

TEST_CASE("decide: bad steps are left out until there are too many in a row") {
  const kernels::AdamWRule rule{.max_bad_steps = 3};
  kernels::StepScalars s;
  const auto step = [&](double loss) {
    s.running_loss = loss;
    kernels::decide(s, rule);
    return s.updated == 1;
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(step(1));
  CHECK_FALSE(step(nan));
  CHECK_FALSE(step(nan));
  CHECK(step(1));
  CHECK(s.bad_in_row == 0);
  CHECK_FALSE(step(nan));
  CHECK_FALSE(step(nan));
  CHECK(s.refused == 0);
  CHECK_FALSE(step(nan));
  CHECK(s.refused == 5);  // the first of the three
  CHECK(s.bad.count == 5);
  CHECK(s.bad.steps[0] == 2);
  CHECK(s.bad.steps[4] == 7);
  CHECK_FALSE(step(1));
  CHECK(s.updates == 2);
  s = {.bad_in_row = 2};  // of the process that was resumed
  CHECK_FALSE(step(nan));
  CHECK(s.refused == 1);
}

TEST_CASE("decide: a spike is what stands out of the window, the new value among it") {
  for (const bool skip : {false, true}) {
    kernels::StepScalars s;
    const kernels::AdamWRule rule{.spike_z = 3, .spike_window = 16, .skip_spikes = skip};
    const auto step = [&](double loss, double norm) {
      s.running_loss = loss;
      s.squared_norm = norm * norm;
      kernels::decide(s, rule);
      return s.updated == 1;
    };
    CHECK(step(100, 1));  // the window is not full yet
    for (int i = 0; i < 20; ++i) CHECK(step(i % 2, 1));
    CHECK(s.loss_z == doctest::Approx(1));  // mean ½, deviation ½, value 1
    CHECK(s.norm_z == 0);                   // no deviation at all
    CHECK(step(9, 1) == !skip);
    // Eight ones, seven zeros and a 9: mean 17/16, squares of the deviations 70.9375 in all.
    CHECK(s.loss_z == doctest::Approx((9 - 1.0625) / std::sqrt(70.9375 / 16)).epsilon(1e-12));
    CHECK(s.spikes.count == 1);
    CHECK(s.spikes.steps[0] == 22);
    CHECK(step(1, 5) == !skip);                           // the norm's spike
    CHECK(s.norm_z == doctest::Approx(std::sqrt(15.0)));  // one among equals
    CHECK(s.updates == (skip ? 21 : 23));
  }
}

TEST_CASE_TEMPLATE("adamw: the moving average takes its share of the new value", T, float, double) {
  Parameter<T> p(40000, 1);
  std::vector<T> ema(40000, T(2));
  auto tensor = p.tensor();
  tensor.ema = ema.data();
  make<T>({{.ema_decay = 0.75}, 0.01}, {tensor});
  size_t wrong = 0;
  for (size_t i = 0; i < ema.size(); ++i) wrong += ema[i] != T(0.75) * T(2) + T(0.25) * p.value[i];
  CHECK(wrong == 0);  // both products and their sum are rounded alike: nothing is fused
}

TEST_CASE_TEMPLATE("squared_norm: literals, fixed blocks, the same bits on any number of threads", T, float, double) {
  CHECK(norm<T>({{3, 4}, {}, {12}}) == 169);
  CHECK(norm<T>({}) == 0);
  const std::vector<std::vector<T>> gradients{random_values<T>(50000, 1), random_values<T>(16384, 2),
                                              random_values<T>(3, 3, 1e4)};
  double expected = 0;
  for (const auto& g : gradients) {
    for (T v : g) expected += static_cast<double>(v) * static_cast<double>(v);
  }
  const double got = same_on_any_threads([&] { return std::vector<double>{norm(gradients)}; })[0];
  CHECK(std::abs(got / expected - 1) < 1e-13);  // float64 sums of positive terms, 16384 at a time
  CHECK(norm<T>({{T(1e30)}}) == static_cast<double>(T(1e30)) * static_cast<double>(T(1e30)));  // beyond float's range
}
