#include "kernels/cross_entropy.h"

#include "tests/kernels/kernel_testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

template <class T>
struct Case {
  int64_t rows, vocabulary, ld;
  std::vector<T> logits;
  std::vector<int32_t> target;
  double scale = 0.125;

  Case(int64_t r, int64_t v, int64_t pitch = 0, double spread = 3)
      : rows(r), vocabulary(v), ld(pitch == 0 ? v : pitch), logits(random_values<T>(r * ld, 1, spread)) {
    for (int64_t i = 0; i < r; ++i)
      target.push_back(i % 5 == 3 ? -1 - static_cast<int32_t>(i) : static_cast<int32_t>(i * 131 % v));
  }
};

template <class T>
struct Outputs {
  std::vector<T> lse, row_loss, loss, dlogits;
};

template <class T>
Outputs<T> run(const Case<T>& c, T dloss = T(1), Mode mode = Mode::overwrite,
               T base = std::numeric_limits<T>::quiet_NaN()) {
  Outputs<T> o{unset<T>(c.rows), unset<T>(c.rows), unset<T>(1),
               std::vector<T>(static_cast<size_t>(c.rows * c.vocabulary), base)};
  kernels::cross_entropy_forward<T>(Cpu{}, Launch{},
                                    {.rows = c.rows,
                                     .vocabulary = c.vocabulary,
                                     .logits = c.logits.data(),
                                     .ld_logits = c.ld,
                                     .target = c.target.data(),
                                     .lse = o.lse.data(),
                                     .row_loss = o.row_loss.data()});
  kernels::cross_entropy_total<T>(Cpu{}, Launch{}, c.rows, c.scale, o.row_loss.data(), o.loss.data());
  kernels::cross_entropy_backward<T>(Cpu{}, Launch{},
                                     {.rows = c.rows,
                                      .vocabulary = c.vocabulary,
                                      .logits = c.logits.data(),
                                      .ld_logits = c.ld,
                                      .target = c.target.data(),
                                      .scale = c.scale,
                                      .lse = o.lse.data(),
                                      .dloss = &dloss,
                                      .dlogits = o.dlogits.data(),
                                      .ld_dlogits = c.vocabulary,
                                      .mode = mode});
  return o;
}

struct Reference {
  std::vector<double> row_loss, dlogits;
  double loss = 0;
};

template <class T>
Reference reference(const Case<T>& c) {
  Reference r{std::vector<double>(static_cast<size_t>(c.rows)),
              std::vector<double>(static_cast<size_t>(c.rows * c.vocabulary))};
  for (int64_t i = 0; i < c.rows; ++i) {
    const T* x = c.logits.data() + i * c.ld;
    const int32_t target = c.target[static_cast<size_t>(i)];
    if (target < 0) continue;
    double largest = -1e300, sum = 0;
    for (int64_t j = 0; j < c.vocabulary; ++j) largest = std::max(largest, static_cast<double>(x[j]));
    for (int64_t j = 0; j < c.vocabulary; ++j) sum += std::exp(static_cast<double>(x[j]) - largest);
    const double lse = largest + std::log(sum);
    r.row_loss[static_cast<size_t>(i)] = lse - static_cast<double>(x[target]);
    r.loss += c.scale * (lse - static_cast<double>(x[target]));
    for (int64_t j = 0; j < c.vocabulary; ++j) {
      r.dlogits[static_cast<size_t>(i * c.vocabulary + j)] =
          c.scale * (std::exp(static_cast<double>(x[j]) - lse) - (j == target ? 1 : 0));
    }
  }
  return r;
}

}  // namespace

TEST_CASE_TEMPLATE("cross_entropy: literals", T, float, double) {
  Case<T> c(2, 2);
  const T log3 = static_cast<T>(std::log(3.0));
  c.logits = {0, log3, 0, log3};  // p = (1/4, 3/4)
  c.target = {0, -1};             // the second row is ignored
  c.scale = 2;
  const Outputs<T> o = run(c, T(10));
  CHECK(relative_error(o.lse, {std::log(4.0), std::log(4.0)}) < 2 * kEpsilon<T>);
  CHECK(relative_error(o.row_loss, {std::log(4.0), 0}) < 2 * kEpsilon<T>);
  CHECK(relative_error(o.loss, {2 * std::log(4.0)}) < 2 * kEpsilon<T>);
  CHECK(relative_error(o.dlogits, {-15, 15, 0, 0}) < 4 * kEpsilon<T>);
  CHECK(o.row_loss[1] == 0);
}

TEST_CASE_TEMPLATE("cross_entropy: odd shapes against float64, modes, the same bits on any number of threads", T, float,
                   double) {
  for (const auto& c : {Case<T>(1, 1), Case<T>(5, 17), Case<T>(37, 2003), Case<T>(9, 100, 113), Case<T>(1100, 3)}) {
    CAPTURE(c.rows);
    CAPTURE(c.vocabulary);
    const Reference expected = reference(c);
    const Outputs<T> o = run(c);
    CHECK(relative_error(o.row_loss, expected.row_loss) < 4 * kEpsilon<T>);
    CHECK(relative_error(o.loss, {expected.loss}) < 4 * kEpsilon<T>);
    // The row's log-sum-exp is kept in T: its rounding, |lse| · ε/2, is the relative error of every probability.
    CHECK(relative_error(o.dlogits, expected.dlogits) < 12 * kEpsilon<T>);
    const std::vector<T> base(o.dlogits.size(), T(3));
    CHECK(relative_error(run(c, T(1), Mode::accumulate, T(3)).dlogits, sum_of(base, in_double(o.dlogits))) <
          2 * kEpsilon<T>);
    same_on_any_threads([&] {
      const Outputs<T> again = run(c);
      return joined(joined(again.loss, again.row_loss), again.dlogits);
    });
  }
}

TEST_CASE_TEMPLATE("cross_entropy: gradients may overwrite the logits", T, float, double) {
  const Case<T> c(11, 300);
  const Outputs<T> o = run(c);
  auto logits = c.logits;
  const T dloss = 1;
  kernels::cross_entropy_backward<T>(Cpu{}, Launch{},
                                     {.rows = c.rows,
                                      .vocabulary = c.vocabulary,
                                      .logits = logits.data(),
                                      .ld_logits = c.ld,
                                      .target = c.target.data(),
                                      .scale = c.scale,
                                      .lse = o.lse.data(),
                                      .dloss = &dloss,
                                      .dlogits = logits.data(),
                                      .ld_dlogits = c.ld});
  CHECK(logits == o.dlogits);
}

TEST_CASE_TEMPLATE("cross_entropy: loss and gradient in one pass, in place of the logits", T, float, double) {
  const Case<T> c(37, 2003, 2010);
  const T dloss = 3;
  const Outputs<T> two_passes = run(c, dloss);
  auto logits = c.logits, lse = unset<T>(c.rows), row_loss = lse;
  kernels::cross_entropy_forward<T>(Cpu{}, Launch{},
                                    {.rows = c.rows,
                                     .vocabulary = c.vocabulary,
                                     .logits = logits.data(),
                                     .ld_logits = c.ld,
                                     .target = c.target.data(),
                                     .lse = lse.data(),
                                     .row_loss = row_loss.data(),
                                     .dlogits = logits.data(),
                                     .dloss = &dloss,
                                     .scale = c.scale});
  CHECK(lse == two_passes.lse);
  CHECK(row_loss == two_passes.row_loss);
  bool same = true;
  for (int64_t i = 0; i < c.rows; ++i) {
    same = same && std::equal(logits.begin() + i * c.ld, logits.begin() + i * c.ld + c.vocabulary,
                              two_passes.dlogits.begin() + i * c.vocabulary);
    same = same && std::equal(logits.begin() + i * c.ld + c.vocabulary, logits.begin() + (i + 1) * c.ld,
                              c.logits.begin() + i * c.ld + c.vocabulary);  // between rows
  }
  CHECK(same);
}

TEST_CASE_TEMPLATE("cross_entropy: extreme logits stay finite and exact", T, float, double) {
  const Case<T> c(20, 50, 0, 1e4);
  const Reference expected = reference(c);
  const Outputs<T> o = run(c);
  CHECK(relative_error(o.row_loss, expected.row_loss) < 4 * kEpsilon<T>);
  CHECK(relative_error(o.loss, {expected.loss}) < 4 * kEpsilon<T>);
  // exp(x - lse) where both are about 1e4 and lse is rounded to T: 1e4 · ε/2, times the few entries that are not 0
  // or 1.
  CHECK(relative_error(o.dlogits, expected.dlogits) < 2e4 * kEpsilon<T>);
}
