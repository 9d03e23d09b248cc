#include "kernels/layer_norm.h"

#include "tests/kernels/kernel_testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

template <class T>
struct Case {
  int64_t rows, n, ld;
  std::vector<T> x, dy, weight, bias;

  Case(int64_t r, int64_t width, int64_t pitch = 0)
      : rows(r),
        n(width),
        ld(pitch == 0 ? width : pitch),
        x(random_values<T>(r * ld, 1, 3)),
        dy(random_values<T>(r * ld, 2)),
        weight(random_values<T>(width, 3)),
        bias(random_values<T>(width, 4)) {}
};

struct Reference {
  std::vector<double> y, dx, dweight, dbias;
};

/// The definition, in float64, rows dense.
template <class T>
Reference reference(const Case<T>& c) {
  const auto n = static_cast<size_t>(c.n), rows = static_cast<size_t>(c.rows), ld = static_cast<size_t>(c.ld);
  Reference r{std::vector<double>(rows * n), std::vector<double>(rows * n), std::vector<double>(n),
              std::vector<double>(n)};
  for (size_t i = 0; i < rows; ++i) {
    double mean = 0, variance = 0, mean_g = 0, mean_gx = 0;
    for (size_t j = 0; j < n; ++j) mean += static_cast<double>(c.x[i * ld + j]) / static_cast<double>(n);
    for (size_t j = 0; j < n; ++j)
      variance += std::pow(static_cast<double>(c.x[i * ld + j]) - mean, 2) / static_cast<double>(n);
    const double rstd = 1 / std::sqrt(variance + 1e-5);
    for (size_t j = 0; j < n; ++j) {
      const double normal = (static_cast<double>(c.x[i * ld + j]) - mean) * rstd,
                   dy = static_cast<double>(c.dy[i * ld + j]);
      const double weight = static_cast<double>(c.weight[j]);
      r.y[i * n + j] = normal * weight + static_cast<double>(c.bias[j]);
      r.dweight[j] += dy * normal;
      r.dbias[j] += dy;
      mean_g += dy * weight / static_cast<double>(n);
      mean_gx += dy * weight * normal / static_cast<double>(n);
    }
    for (size_t j = 0; j < n; ++j) {
      const double normal = (static_cast<double>(c.x[i * ld + j]) - mean) * rstd;
      const double g = static_cast<double>(c.dy[i * ld + j]) * static_cast<double>(c.weight[j]);
      r.dx[i * n + j] = rstd * (g - mean_g - normal * mean_gx);
    }
  }
  return r;
}

template <class T>
struct Outputs {
  std::vector<T> y, mean, rstd, dx, dweight, dbias;
};

template <class T>
Outputs<T> run(const Case<T>& c, Mode mode = Mode::overwrite, T base = std::numeric_limits<T>::quiet_NaN()) {
  Outputs<T> o{unset<T>(c.rows * c.n),
               unset<T>(c.rows),
               unset<T>(c.rows),
               std::vector<T>(static_cast<size_t>(c.rows * c.n), base),
               std::vector<T>(static_cast<size_t>(c.n), base),
               std::vector<T>(static_cast<size_t>(c.n), base)};
  kernels::layer_norm_forward<T>(Cpu{}, Launch{},
                                 {.rows = c.rows,
                                  .n = c.n,
                                  .x = c.x.data(),
                                  .ldx = c.ld,
                                  .weight = c.weight.data(),
                                  .bias = c.bias.data(),
                                  .y = o.y.data(),
                                  .ldy = c.n,
                                  .mean = o.mean.data(),
                                  .rstd = o.rstd.data()});
  Workspace workspace(kernels::layer_norm_backward_workspace_bytes<T>(Cpu{}, c.rows, c.n));
  kernels::layer_norm_backward<T>(Cpu{}, workspace,
                                  {.rows = c.rows,
                                   .n = c.n,
                                   .dy = c.dy.data(),
                                   .lddy = c.ld,
                                   .x = c.x.data(),
                                   .ldx = c.ld,
                                   .weight = c.weight.data(),
                                   .mean = o.mean.data(),
                                   .rstd = o.rstd.data(),
                                   .dx = o.dx.data(),
                                   .lddx = c.n,
                                   .dweight = o.dweight.data(),
                                   .dweight_mode = mode,
                                   .dbias = o.dbias.data(),
                                   .dbias_mode = mode,
                                   .dh = mode == Mode::accumulate ? o.dx.data() : nullptr});
  return o;
}

}  // namespace

TEST_CASE_TEMPLATE("layer_norm: literals", T, float, double) {
  // Mean 0, variance 1, so that with eps = 0 the normalised row is the row itself.
  const std::vector<T> x{-1, -1, 1, 1}, weight{1, 2, 3, 4}, ones{1, 1, 1, 1}, bias{0, 0, 10, 0}, dy{1, 0, 0, 0};
  auto y = unset<T>(4), mean = unset<T>(1), rstd = unset<T>(1), dx = unset<T>(4), dweight = unset<T>(4),
       dbias = unset<T>(4);
  kernels::layer_norm_forward<T>(Cpu{}, Launch{},
                                 {.rows = 1,
                                  .n = 4,
                                  .x = x.data(),
                                  .ldx = 4,
                                  .weight = weight.data(),
                                  .bias = bias.data(),
                                  .y = y.data(),
                                  .ldy = 4,
                                  .mean = mean.data(),
                                  .rstd = rstd.data(),
                                  .eps = 0});
  CHECK(y == std::vector<T>{-1, -2, 13, 4});
  CHECK(mean[0] == 0);
  CHECK(rstd[0] == 1);
  Workspace workspace(kernels::layer_norm_backward_workspace_bytes<T>(Cpu{}, 1, 4));
  kernels::layer_norm_backward<T>(Cpu{}, workspace,
                                  {.rows = 1,
                                   .n = 4,
                                   .dy = dy.data(),
                                   .lddy = 4,
                                   .x = x.data(),
                                   .ldx = 4,
                                   .weight = ones.data(),
                                   .mean = mean.data(),
                                   .rstd = rstd.data(),
                                   .dx = dx.data(),
                                   .lddx = 4,
                                   .dweight = dweight.data(),
                                   .dbias = dbias.data()});
  CHECK(dx == std::vector<T>{0.5, -0.5, 0, 0});
  CHECK(dweight == std::vector<T>{-1, 0, 0, 0});
  CHECK(dbias == dy);
}

TEST_CASE_TEMPLATE("layer_norm: odd shapes and pitched rows against the definition", T, float, double) {
  for (const auto& c : {Case<T>(1, 1), Case<T>(3, 7), Case<T>(65, 33), Case<T>(130, 412), Case<T>(5, 101, 128)}) {
    CAPTURE(c.rows);
    CAPTURE(c.n);
    const Reference expected = reference(c);
    const Outputs<T> o = run(c);
    const double rounding = 4 * kEpsilon<T>;  // statistics are in float64: a handful of roundings an element are left
    CHECK(relative_error(o.y, expected.y) < rounding);
    CHECK(relative_error(o.dx, expected.dx) < 4 * rounding);            // g - mean(g) - x̂ mean(g x̂) cancels
    CHECK(relative_error(o.dweight, expected.dweight) < 2 * rounding);  // sums of up to 64 terms in T
    CHECK(relative_error(o.dbias, expected.dbias) < 2 * rounding);
  }
}

TEST_CASE_TEMPLATE("layer_norm: accumulate adds to what is there, null gradients are skipped", T, float, double) {
  const Case<T> c(70, 29);
  const Outputs<T> plain = run(c), added = run(c, Mode::accumulate, T(2));
  const std::vector<T> twos(plain.dx.size(), T(2)), few(plain.dweight.size(), T(2));
  CHECK(relative_error(added.dx, sum_of(twos, in_double(plain.dx))) < kEpsilon<T>);
  CHECK(relative_error(added.dweight, sum_of(few, in_double(plain.dweight))) < kEpsilon<T>);
  CHECK(relative_error(added.dbias, sum_of(few, in_double(plain.dbias))) < kEpsilon<T>);

  auto dx = unset<T>(c.rows * c.n), dbias = unset<T>(c.n);
  kernels::LayerNormBackward<T> args{.rows = c.rows,
                                     .n = c.n,
                                     .dy = c.dy.data(),
                                     .lddy = c.n,
                                     .x = c.x.data(),
                                     .ldx = c.n,
                                     .weight = c.weight.data(),
                                     .mean = plain.mean.data(),
                                     .rstd = plain.rstd.data(),
                                     .dx = dx.data(),
                                     .lddx = c.n};
  kernels::layer_norm_backward<T>(Cpu{}, Launch{}, args);  // no parameter gradients: no workspace is touched
  CHECK(dx == plain.dx);
  args.dx = nullptr;
  args.dbias = dbias.data();
  Workspace workspace(kernels::layer_norm_backward_workspace_bytes<T>(Cpu{}, c.rows, c.n));
  kernels::layer_norm_backward<T>(Cpu{}, workspace, args);
  CHECK(dbias == plain.dbias);
}

TEST_CASE_TEMPLATE("layer_norm: of a sum, as of its terms added before", T, float, double) {
  const Case<T> c(70, 29);
  const auto branch = random_values<T>(70 * 29, 7), dh = random_values<T>(70 * 29, 8),
             dnarrow = random_values<T>(70 * 29, 9);
  Case<T> summed = c;
  for (size_t i = 0; i < branch.size(); ++i) summed.x[i] += branch[i];
  const Outputs<T> plain = run(summed);
  auto h = unset<T>(70 * 29), narrow = h, y = h, dx = h, mean = unset<T>(70), rstd = mean;
  kernels::layer_norm_forward<T>(Cpu{}, Launch{},
                                 {.rows = c.rows,
                                  .n = c.n,
                                  .x = c.x.data(),
                                  .ldx = c.n,
                                  .weight = c.weight.data(),
                                  .bias = c.bias.data(),
                                  .y = y.data(),
                                  .ldy = c.n,
                                  .mean = mean.data(),
                                  .rstd = rstd.data(),
                                  .branch = branch.data(),
                                  .h = h.data(),
                                  .narrow = narrow.data()});
  CHECK(h == summed.x);
  CHECK(narrow == summed.x);
  CHECK(y == plain.y);
  kernels::layer_norm_backward<T>(Cpu{}, Launch{},
                                  {.rows = c.rows,
                                   .n = c.n,
                                   .dy = c.dy.data(),
                                   .lddy = c.n,
                                   .x = h.data(),
                                   .ldx = c.n,
                                   .weight = c.weight.data(),
                                   .mean = mean.data(),
                                   .rstd = rstd.data(),
                                   .dx = dx.data(),
                                   .lddx = c.n,
                                   .dh = dh.data(),
                                   .dnarrow = dnarrow.data()});
  std::vector<double> expected = in_double(plain.dx);
  for (size_t i = 0; i < expected.size(); ++i)
    expected[i] += static_cast<double>(dh[i]) + static_cast<double>(dnarrow[i]);
  CHECK(relative_error(dx, expected) < 2 * kEpsilon<T>);  // two additions
}

TEST_CASE("layer_norm: a large common offset costs only what the input has lost already") {
  Case<float> c(4, 412);
  for (float& v : c.x) v += 1000;
  // x itself is exact in the reference; the mean is rounded to float once: 1000 · 6e-8 against a deviation of 3.
  CHECK(relative_error(run(c).y, reference(c).y) < 4e-5);
}

TEST_CASE_TEMPLATE("layer_norm: the same bits on any number of threads", T, float, double) {
  const Case<T> c(197, 61);
  same_on_any_threads([&] {
    const Outputs<T> o = run(c);
    return joined(joined(o.y, o.dx), joined(o.dweight, o.dbias));
  });
}
