#include "kernels/reduce.h"

#include "tests/kernels/kernel_testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

template <class T>
std::vector<T> column_sum(int64_t rows, int64_t n, const std::vector<T>& x, int64_t ldx, std::vector<T> out,
                          Mode mode) {
  Workspace workspace(kernels::column_sum_workspace_bytes<T>(Cpu{}, rows, n));
  kernels::column_sum<T>(Cpu{}, workspace, rows, n, x.data(), ldx, out.data(), mode);
  return out;
}

}  // namespace

TEST_CASE_TEMPLATE("column_sum: literals and modes", T, float, double) {
  const std::vector<T> x{1, 2, 99, 3, 4, 99, 5, 6, 99};  // rows of two, three apart
  CHECK(column_sum<T>(3, 2, x, 3, unset<T>(2), Mode::overwrite) == std::vector<T>{9, 12});
  CHECK(column_sum<T>(3, 2, x, 3, {100, 200}, Mode::accumulate) == std::vector<T>{109, 212});
  CHECK(column_sum<T>(0, 2, x, 3, unset<T>(2), Mode::overwrite) == std::vector<T>{0, 0});
}

TEST_CASE_TEMPLATE("column_sum: odd shapes against float64, the same bits on any number of threads", T, float, double) {
  for (const auto& [rows, n] : {std::pair<int64_t, int64_t>{1, 1}, {63, 5}, {64, 129}, {389, 2051}}) {
    CAPTURE(rows);
    CAPTURE(n);
    const auto x = random_values<T>(rows * n, 7);
    std::vector<double> expected(static_cast<size_t>(n));
    for (int64_t i = 0; i < rows * n; ++i)
      expected[static_cast<size_t>(i % n)] += static_cast<double>(x[static_cast<size_t>(i)]);
    const auto sum = same_on_any_threads([&] { return column_sum<T>(rows, n, x, n, unset<T>(n), Mode::overwrite); });
    CHECK(relative_error(sum, expected) < 4 * kEpsilon<T>);  // 64 terms in T, four at a time, then float64
  }
}
