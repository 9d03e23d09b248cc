#include "autograd/grad_check.h"

#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "core/rng.h"

namespace moeut {

namespace {

using Function = std::function<Variable(Tape&, const std::vector<Variable>&)>;

Tensor random_like(const Shape& shape, uint64_t seed) {
  Rng rng(seed, 0x67726164);
  Tensor t = Tensor::empty(shape, DType::f64);
  for (int64_t i = 0; i < t.size(); ++i) t.data<double>()[i] = rng.normal();
  return t;
}

double dot(const Tensor& a, const Tensor& b) {
  double sum = 0;
  for (int64_t i = 0; i < a.size(); ++i) sum += a.data<double>()[i] * b.data<double>()[i];
  return sum;
}

double value_at(const Function& f, const std::vector<Tensor>& inputs, const Tensor& upstream) {
  Tape tape(Tape::Recording::off);
  std::vector<Variable> constants(inputs.begin(), inputs.end());
  return dot(f(tape, constants).value(), upstream);
}

Tensor numeric_gradient(const Function& f, std::vector<Tensor> inputs, size_t which, const Tensor& upstream,
                        double step) {
  inputs[which] = inputs[which].clone();
  double* x = inputs[which].data<double>();
  Tensor gradient = Tensor::empty(inputs[which].shape(), DType::f64);
  for (int64_t i = 0; i < gradient.size(); ++i) {
    const double saved = x[i], h = step * std::max(1.0, std::abs(saved));
    x[i] = saved + h;
    const double above = value_at(f, inputs, upstream);
    x[i] = saved - h;
    const double below = value_at(f, inputs, upstream);
    x[i] = saved;
    gradient.data<double>()[i] = (above - below) / (2 * h);
  }
  return gradient;
}

void compare(const Tensor& analytic, const Tensor& numeric, size_t input, GradCheckResult& result) {
  double difference = 0, norm = 0, worst = -1;
  int64_t where = 0;
  for (int64_t i = 0; i < numeric.size(); ++i) {
    const double a = analytic.data<double>()[i], n = numeric.data<double>()[i];
    difference += (a - n) * (a - n);
    norm += n * n;
    if (!(std::abs(a - n) <= worst)) worst = std::abs(a - n), where = i;
  }
  const double scale = std::max(std::sqrt(norm), 1e-8);  // an all-zero gradient is compared absolutely
  result.relative_error.push_back(std::sqrt(difference) / scale);
  if (numeric.size() == 0) return;
  result.report += fmt::format("input {} {}: relative error {:.2e}, worst at {}: analytic {:.10g}, numeric {:.10g}\n",
                               input, numeric.shape().str(), result.relative_error.back(), where,
                               analytic.data<double>()[where], numeric.data<double>()[where]);
}

}  // namespace

double GradCheckResult::worst() const {
  double worst = 0;
  for (const double e : relative_error) worst = e <= worst ? worst : e;  // a NaN wins
  return worst;
}

GradCheckResult grad_check(const Function& f, const std::vector<Tensor>& inputs, const GradCheckOptions& options) {
  for (const Tensor& t : inputs)
    require<ShapeError>(t.dtype() == DType::f64 && t.device().is_cpu(), "grad_check: {} is not f64 on cpu", t.str());
  Tape tape;
  std::vector<Variable> leaves;
  for (const Tensor& t : inputs) leaves.push_back(tape.leaf(t));
  const Variable y = f(tape, leaves);
  const Tensor upstream = random_like(y.shape(), options.seed);
  tape.backward_from({{y, upstream.clone()}});
  GradCheckResult result;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Tensor analytic =
        leaves[i].gradient().defined() ? leaves[i].gradient() : Tensor::zeros(inputs[i].shape(), DType::f64);
    compare(analytic, numeric_gradient(f, inputs, i, upstream, options.step), i, result);
  }
  return result;
}

}  // namespace moeut
