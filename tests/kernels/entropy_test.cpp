#include "kernels/entropy.h"

#include "tests/kernels/kernel_testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

template <class T>
struct Case {
  int64_t batch, time, heads, experts, repeats;
  std::vector<std::vector<T>> logits;
  double scale = 0.75;

  Case(int64_t b, int64_t t, int64_t h, int64_t e, int64_t r, double spread = 2)
      : batch(b), time(t), heads(h), experts(e), repeats(r) {
    for (int64_t k = 0; k < r; ++k)
      logits.push_back(random_values<T>(b * t * h * e, 30 + static_cast<uint64_t>(k), spread));
  }
  int64_t size() const { return batch * time * heads * experts; }
};

template <class T>
struct Outputs {
  std::vector<T> log_mean, reg, dlogits;  // dlogits of all repeats, one after the other
};

template <class T>
Outputs<T> run(const Case<T>& c, T dreg = T(1), Mode mode = Mode::overwrite,
               T base = std::numeric_limits<T>::quiet_NaN()) {
  Outputs<T> o{unset<T>(c.batch * c.heads * c.experts), unset<T>(1), {}};
  std::vector<const T*> pointers;
  for (const auto& l : c.logits) pointers.push_back(l.data());
  Workspace workspace(kernels::entropy_workspace_bytes<T>(Cpu{}, c.batch, c.time, c.heads, c.experts));
  kernels::entropy_forward<T>(Cpu{}, workspace,
                              {.batch = c.batch,
                               .time = c.time,
                               .heads = c.heads,
                               .experts = c.experts,
                               .logits = pointers,
                               .scale = c.scale,
                               .log_mean = o.log_mean.data(),
                               .reg = o.reg.data()});
  for (const T* logits : pointers) {
    std::vector<T> dlogits(static_cast<size_t>(c.size()), base);
    kernels::entropy_backward<T>(Cpu{}, Launch{},
                                 {.batch = c.batch,
                                  .time = c.time,
                                  .heads = c.heads,
                                  .experts = c.experts,
                                  .repeats = c.repeats,
                                  .logits = logits,
                                  .log_mean = o.log_mean.data(),
                                  .scale = c.scale,
                                  .dreg = &dreg,
                                  .dlogits = dlogits.data(),
                                  .mode = mode});
    o.dlogits = joined(o.dlogits, dlogits);
  }
  return o;
}

struct Reference {
  std::vector<double> log_mean, dlogits;
  double reg = 0;
};

// The reference of float64 must be better than float64: the gradient is a difference of like numbers.
using Real = long double;

Real log_sum_exp(const Real* x, int64_t n) {
  Real largest = -1e300L, sum = 0;
  for (int64_t e = 0; e < n; ++e) largest = std::max(largest, x[e]);
  for (int64_t e = 0; e < n; ++e) sum += std::exp(x[e] - largest);
  return largest + std::log(sum);
}

std::vector<Real> log_softmax(const Real* x, int64_t n) {
  const Real lse = log_sum_exp(x, n);
  std::vector<Real> l;
  for (int64_t e = 0; e < n; ++e) l.push_back(x[e] - lse);
  return l;
}

/// The header's formulas, term by term: all ℓ of an expert are gathered before they are summed.
template <class T>
Reference reference(const Case<T>& c) {
  Reference r{std::vector<double>(static_cast<size_t>(c.batch * c.heads * c.experts)),
              std::vector<double>(static_cast<size_t>(c.size() * c.repeats))};
  std::vector<std::vector<Real>> logits;
  for (const auto& l : c.logits) logits.emplace_back(l.begin(), l.end());
  const auto at = [&](int64_t b, int64_t t, int64_t h) { return ((b * c.time + t) * c.heads + h) * c.experts; };
  for (int64_t b = 0; b < c.batch; ++b) {
    for (int64_t h = 0; h < c.heads; ++h) {
      std::vector<std::vector<Real>> l;
      for (const auto& repeat : logits) {
        for (int64_t t = 0; t < c.time; ++t) l.push_back(log_softmax(repeat.data() + at(b, t, h), c.experts));
      }
      std::vector<Real> m;
      for (int64_t e = 0; e < c.experts; ++e) {
        std::vector<Real> column;
        for (const auto& row : l) column.push_back(row[static_cast<size_t>(e)]);
        m.push_back(log_sum_exp(column.data(), static_cast<int64_t>(column.size())) -
                    std::log(static_cast<Real>(column.size())));
        r.log_mean[static_cast<size_t>((b * c.heads + h) * c.experts + e)] = static_cast<double>(m.back());
        r.reg += c.scale / static_cast<double>(c.heads) * static_cast<double>(m.back() * std::exp(m.back()));
      }
      for (int64_t k = 0; k < c.repeats; ++k) {
        for (int64_t t = 0; t < c.time; ++t) {
          const auto& row = l[static_cast<size_t>(k * c.time + t)];
          const auto coefficient = [&](size_t e) {
            return static_cast<Real>(c.scale) * (1 + m[e]) / static_cast<Real>(c.heads * c.repeats * c.time);
          };
          Real mean = 0;
          for (size_t e = 0; e < row.size(); ++e) mean += coefficient(e) * std::exp(row[e]);
          for (size_t e = 0; e < row.size(); ++e) {
            r.dlogits[static_cast<size_t>(k * c.size() + at(b, t, h)) + e] =
                static_cast<double>(std::exp(row[e]) * (coefficient(e) - mean));
          }
        }
      }
    }
  }
  return r;
}

}  // namespace

TEST_CASE_TEMPLATE("entropy: literals", T, float, double) {
  Case<T> c(1, 2, 1, 2, 1);
  const auto log = [](double x) { return static_cast<T>(std::log(x)); };
  c.logits[0] = {log(0.8), log(0.2), log(0.4), log(0.6)};  // mean distribution (0.6, 0.4)
  c.scale = 2;
  const Outputs<T> o = run(c);
  CHECK(relative_error(o.log_mean, {-0.51082562376599068, -0.916290731874155}) < 4 * kEpsilon<T>);
  CHECK(relative_error(o.reg, {2 * -0.6730116670092565}) < 4 * kEpsilon<T>);
  // k = scale / time = 1;  p0 p1 (m0 - m1) = ± 0.16 · ln 1.5 and ± 0.24 · ln 1.5
  CHECK(relative_error(o.dlogits, {0.16 * std::log(1.5), -0.16 * std::log(1.5), 0.24 * std::log(1.5),
                                   -0.24 * std::log(1.5)}) < 16 * kEpsilon<T>);
}

TEST_CASE_TEMPLATE("entropy: odd shapes against float64, modes, the same bits on any number of threads", T, float,
                   double) {
  for (const auto& c :
       {Case<T>(1, 1, 1, 1, 1), Case<T>(2, 33, 3, 5, 2), Case<T>(1, 70, 1, 155, 9), Case<T>(3, 32, 2, 17, 1)}) {
    CAPTURE(c.experts);
    const Reference expected = reference(c);
    const Outputs<T> o = run(c);
    CHECK(relative_error(o.log_mean, expected.log_mean) < 8 * kEpsilon<T>);
    CHECK(std::abs(static_cast<double>(o.reg[0]) - expected.reg) <= 8 * kEpsilon<T> * (1 + std::abs(expected.reg)));
    CHECK(relative_error(o.dlogits, expected.dlogits) < 16 * kEpsilon<T>);  // m is rounded to T, then m - Σ p m cancels
    const std::vector<T> base(o.dlogits.size(), T(2));
    CHECK(relative_error(run(c, T(1), Mode::accumulate, T(2)).dlogits, sum_of(base, in_double(o.dlogits))) <
          2 * kEpsilon<T>);
    same_on_any_threads([&] {
      const Outputs<T> again = run(c);
      return joined(joined(again.log_mean, again.reg), again.dlogits);
    });
  }
}

TEST_CASE_TEMPLATE("entropy: extreme logits stay finite and exact", T, float, double) {
  const Case<T> c(2, 40, 1, 7, 2, 1e4);
  const Reference expected = reference(c);
  const Outputs<T> o = run(c);
  CHECK(relative_error(o.log_mean, expected.log_mean) <
        8 * kEpsilon<T>);  // values down to -1e4, whose exponentials do not exist in float
  CHECK(relative_error(o.reg, {expected.reg}) < 8 * kEpsilon<T>);
  // Nearly every row has one expert with p = 1, whose gradient is the rounding of its own m, up to 1e4.
  const double k = c.scale / static_cast<double>(c.repeats * c.time);
  for (size_t i = 0; i < o.dlogits.size(); ++i) {
    CHECK(std::abs(static_cast<double>(o.dlogits[i]) - expected.dlogits[i]) <= 1e4 * 4 * kEpsilon<T> * k);
  }
}

TEST_CASE_TEMPLATE("entropy: an expert that no token can reach", T, float, double) {
  Case<T> c(1, 3, 1, 3, 1);
  c.logits[0] = {0, 0, -20000, 0, 0, -20000, 0, 0, -20000};
  const Outputs<T> o = run(c);
  CHECK(relative_error(o.log_mean, {-std::log(2.0), -std::log(2.0), -20000 - std::log(2.0)}) < 4 * kEpsilon<T>);
  CHECK(relative_error(o.reg, {-0.75 * std::log(2.0)}) < 4 * kEpsilon<T>);
  for (T d : o.dlogits) CHECK(std::abs(static_cast<double>(d)) < 1e-6);
}
