#include "kernels/sampling.h"

#include "tests/kernels/kernel_testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

template <class T>
int32_t pick(const std::vector<T>& logits, kernels::Sample<T> args) {
  int32_t token = -1;
  args.vocabulary = static_cast<int64_t>(logits.size());
  args.logits = logits.data();
  args.token = &token;
  Workspace workspace(kernels::sample_workspace_bytes<T>(Cpu{}, args.vocabulary));
  kernels::sample<T>(Cpu{}, workspace, args);
  return token;
}

/// How often each token comes for evenly spaced numbers in [0, 1).
template <class T>
std::vector<double> shares(const std::vector<T>& logits, kernels::Sample<T> args, int points = 1000) {
  std::vector<double> share(logits.size());
  for (int i = 0; i < points; ++i) {
    args.uniform = (i + 0.5) / points;
    share[static_cast<size_t>(pick(logits, args))] += 1.0 / points;
  }
  return share;
}

void check_shares(const std::vector<double>& got, const std::vector<double>& expected) {
  for (size_t i = 0; i < got.size(); ++i)
    CHECK(std::abs(got[i] - expected[i]) <= 0.0011);  // evenly spaced: off by one point of 1000
}

template <class T>
std::vector<T> logs(const std::vector<double>& p) {
  std::vector<T> l;
  for (double v : p) l.push_back(static_cast<T>(std::log(v)));
  return l;
}

}  // namespace

TEST_CASE_TEMPLATE("sample: temperature 0 is the argmax, the lowest id on ties", T, float, double) {
  const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  CHECK(pick<T>({1, 5, 5, 2}, {.temperature = 0}) == 1);
  CHECK(pick<T>({nan, -3, -2}, {.temperature = 0}) == 2);
  CHECK(pick<T>({-inf, -inf}, {.temperature = 0}) == 0);
  CHECK(pick<T>({7}, {.uniform = 0.999}) == 0);
}

TEST_CASE_TEMPLATE("sample: shares follow softmax(logits / temperature)", T, float, double) {
  const auto logits = logs<T>({0.1, 0.6, 0.3});
  check_shares(shares<T>(logits, {}), {0.1, 0.6, 0.3});
  // At temperature 1/2 probabilities are squared: 1, 36, 9 of 46.
  check_shares(shares<T>(logits, {.temperature = 0.5}), {1 / 46.0, 36 / 46.0, 9 / 46.0});
  CHECK(pick<T>(logits, {.uniform = 0}) == 1);     // the best comes first in the running sum,
  CHECK(pick<T>(logits, {.uniform = 0.61}) == 2);  // then the second,
  CHECK(pick<T>(logits, {.uniform = 0.91}) == 0);  // then the third
}

TEST_CASE_TEMPLATE("sample: top_k and top_p keep the beginning of the ranking", T, float, double) {
  const auto logits = logs<T>({0.1, 0.4, 0.2, 0.3});
  check_shares(shares<T>(logits, {.top_k = 2}), {0, 4 / 7.0, 0, 3 / 7.0});
  check_shares(shares<T>(logits, {.top_k = 100}), {0.1, 0.4, 0.2, 0.3});
  check_shares(shares<T>(logits, {.top_p = 0.69}), {0, 4 / 7.0, 0, 3 / 7.0});
  check_shares(shares<T>(logits, {.top_p = 0.71}), {0, 4 / 9.0, 2 / 9.0, 3 / 9.0});
  check_shares(shares<T>(logits, {.top_p = 1e-9}), {0, 1, 0, 0});  // at least one
  check_shares(shares<T>(logits, {.top_k = 3, .top_p = 0.75}),
               {0, 4 / 7.0, 0, 3 / 7.0});  // top_p of what top_k left: 7/9 ≥ 0.75
  CHECK(pick<T>({2, 2, 2}, {.top_k = 1, .uniform = 0.99}) == 0);
}

TEST_CASE_TEMPLATE("sample: impossible tokens and extreme numbers", T, float, double) {
  const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  check_shares(shares<T>({-inf, 0, nan, 0}, {}), {0, 0.5, 0, 0.5});
  CHECK(pick<T>({-inf, -inf, nan}, {.uniform = 0.7}) == 0);
  CHECK(pick<T>({0, inf, 3}, {.uniform = 0.99}) == 1);
  CHECK(pick<T>({1e4, -1e4}, {.temperature = 1e-4, .uniform = 0.9999999}) == 0);
  check_shares(shares<T>({3, -3}, {.temperature = 1e6}), {0.5, 0.5});
  for (double u : {0.0, 0.5, std::nextafter(1.0, 0.0)}) {
    const int32_t token = pick<T>(random_values<T>(997, 3), {.uniform = u});
    CHECK(token >= 0);
    CHECK(token < 997);
  }
}
