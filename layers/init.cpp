#include "layers/init.h"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <vector>

#include "core/check.h"
#include "core/rng.h"

namespace moeut {

namespace {

/// FNV-1a of the name: the parameter's random stream.
uint64_t stream_of(std::string_view name) {
  uint64_t h = 14695981039346656037ull;
  for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  return h;
}

constexpr int64_t kBlock = 4096;  // even, so that a pair of normal numbers lies in one block

template <class T, class F>
void fill_host(T* x, int64_t n, F&& block) {
#pragma omp parallel for schedule(static)
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    double values[kBlock];
    const int64_t end = std::min(begin + kBlock, n);
    block(begin, end, values);
    for (int64_t i = begin; i < end; ++i) x[i] = static_cast<T>(values[i - begin]);
  }
}

/// Sets the parameter's elements [begin, end) to what block(begin, end, values) writes to values, at most kBlock at a
/// time, and in float64 whatever the parameter's type. Does nothing on meta.
template <class F>
void assign(Parameter& parameter, F&& block) {
  if (parameter.value.device().is_meta()) return;
  Tensor host = parameter.value.device().is_cpu() ? parameter.value
                                                  : Tensor::empty(parameter.value.shape(), parameter.value.dtype());
  host.dtype() == DType::f64 ? fill_host(host.data<double>(), host.size(), block)
                             : fill_host(host.data<float>(), host.size(), block);
  if (!parameter.value.device().is_cpu()) parameter.value.copy_from(host);
}

double unbiased_std(const double* x, int64_t n) {
  double mean = 0, sum = 0;
  for (int64_t i = 0; i < n; ++i) mean += x[i];
  mean /= static_cast<double>(n);
  for (int64_t i = 0; i < n; ++i) sum += (x[i] - mean) * (x[i] - mean);
  return std::sqrt(sum / static_cast<double>(n - 1));
}

double norm(const double* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += x[i] * x[i];
  return std::sqrt(sum);
}

/// Unit rows times a factor a row, then rescaled to `scale(std of the unit rows)`.
template <class RowFactor>
void rescale_rows(Parameter& parameter, RowFactor&& factor_of_row) {
  if (parameter.value.device().is_meta()) return;
  require<ShapeError>(parameter.value.shape().rank() == 2, "init: {} {} is not a matrix of rows", parameter.name,
                      parameter.value.shape().str());
  const int64_t rows = parameter.value.shape()[0], d = parameter.value.shape()[1];
  Tensor host = parameter.value.to(Device::cpu(), DType::f64);
  double* x = host.data<double>();
  const double whole_std = unbiased_std(x, rows * d);
  std::vector<double> row_factor(static_cast<size_t>(rows));
  for (int64_t r = 0; r < rows; ++r) {
    row_factor[static_cast<size_t>(r)] = factor_of_row(whole_std, x + r * d, d);
    const double length = norm(x + r * d, d);
    for (int64_t i = 0; i < d; ++i) x[r * d + i] /= length;
  }
  const double unit_std = unbiased_std(x, rows * d);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < d; ++i) x[r * d + i] *= row_factor[static_cast<size_t>(r)] / unit_std;
  }
  parameter.value.copy_from(host.to(Device::cpu(), parameter.value.dtype()));
}

}  // namespace

void init_normal(Parameter& parameter, double std, uint64_t seed) {
  const uint64_t stream = stream_of(parameter.name);
  assign(parameter, [=](int64_t begin, int64_t end, double* values) {
    for (int64_t i = begin; i < end; i += 2) {
      const Philox4 r = philox(seed, stream, static_cast<uint64_t>(i) / 2);
      const double radius = std::sqrt(-2.0 * std::log(uniform_double(r.x[0], r.x[1])));
      const double angle = 6.283185307179586476925286766559 * uniform_double(r.x[2], r.x[3]);
      values[i - begin] = std * radius * std::cos(angle);
      if (i + 1 < end) values[i + 1 - begin] = std * radius * std::sin(angle);
    }
  });
}

void init_uniform(Parameter& parameter, double bound, uint64_t seed) {
  const uint64_t stream = stream_of(parameter.name);
  assign(parameter, [=](int64_t begin, int64_t end, double* values) {
    for (int64_t i = begin; i < end; ++i) {
      const Philox4 r = philox(seed, stream, static_cast<uint64_t>(i));
      values[i - begin] = bound * (2 * uniform_double(r.x[0], r.x[1]) - 1);
    }
  });
}

void init_constant(Parameter& parameter, double value) {
  assign(parameter,
         [=](int64_t begin, int64_t end, double* values) { std::fill(values, values + (end - begin), value); });
}

void equalize_row_norms(Parameter& parameter) {
  rescale_rows(parameter, [](double whole_std, const double*, int64_t) { return whole_std; });
}

void normalize_rows_keep_row_std(Parameter& parameter) {
  rescale_rows(parameter, [](double, const double* row, int64_t d) { return unbiased_std(row, d); });
}

}  // namespace moeut
