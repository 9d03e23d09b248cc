#include "kernels/embedding.h"

#include "tests/kernels/kernel_testing.h"

using namespace moeut;
using namespace moeut::testing;

TEST_CASE_TEMPLATE("embedding: literals and modes", T, float, double) {
  const std::vector<T> table{1, 2, 3, 4, 5, 6};
  const std::vector<int32_t> token{2, 0, 2};
  auto y = unset<T>(6);
  kernels::embedding_forward<T>(Cpu{}, Launch{}, 3, 2, token.data(), table.data(), y.data());
  CHECK(y == std::vector<T>{5, 6, 1, 2, 5, 6});

  const std::vector<T> dy{1, 10, 2, 20, 3, 30};
  auto dtable = unset<T>(6);
  kernels::embedding_backward<T>(Cpu{}, Launch{}, 3, 2, 3, token.data(), dy.data(), dtable.data(), Mode::overwrite);
  CHECK(dtable == std::vector<T>{2, 20, 0, 0, 4, 40});
  kernels::embedding_backward<T>(Cpu{}, Launch{}, 3, 2, 3, token.data(), dy.data(), dtable.data(), Mode::accumulate);
  CHECK(dtable == std::vector<T>{4, 40, 0, 0, 8, 80});
}

TEST_CASE_TEMPLATE("embedding: many repeated tokens sum in the order of the tokens", T, float, double) {
  const int64_t n = 700, width = 37, vocabulary = 523;
  std::vector<int32_t> token;
  Rng rng(5, 0);
  for (int64_t i = 0; i < n; ++i) token.push_back(static_cast<int32_t>(std::pow(rng.uniform(), 4) * vocabulary));
  const auto dy = random_values<T>(n * width, 11);
  std::vector<T> expected(static_cast<size_t>(vocabulary * width),
                          T(0));  // the definition itself, in T: equal to the bit
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < width; ++j) {
      expected[static_cast<size_t>(token[static_cast<size_t>(i)] * width + j)] +=
          dy[static_cast<size_t>(i * width + j)];
    }
  }
  const auto dtable = same_on_any_threads([&] {
    auto d = unset<T>(vocabulary * width);
    kernels::embedding_backward<T>(Cpu{}, Launch{}, n, width, vocabulary, token.data(), dy.data(), d.data(),
                                   Mode::overwrite);
    return d;
  });
  CHECK(dtable == expected);
}
