#include "kernels/routing.h"

#include <algorithm>
#include <numeric>
#include <tuple>

#include "tests/kernels/kernel_testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

template <class T>
struct Choice {
  std::vector<int32_t> expert;
  std::vector<T> gate;
};

template <class T>
Choice<T> run(kernels::TopK<T> args) {
  Choice<T> c{std::vector<int32_t>(static_cast<size_t>(args.rows * args.k), -12345), unset<T>(args.rows * args.k)};
  args.expert = c.expert.data();
  args.gate = c.gate.data();
  kernels::top_k<T>(Cpu{}, Launch{}, args);
  return c;
}

/// Logits on a grid of 1/4: equal ones are ties, different ones stay different after the sigmoid.
template <class T>
std::vector<T> grid_logits(int64_t n, uint64_t stream) {
  auto values = random_values<T>(n, stream, 2);
  for (T& v : values) v = std::round(v * 4) / 4;
  return values;
}

/// The ranking rule by sorting.
template <class T>
std::vector<int32_t> reference(const kernels::TopK<T>& a) {
  std::vector<int32_t> ids;
  for (int64_t row = 0; row < a.rows; ++row) {
    std::vector<std::tuple<bool, T, int32_t>> order;  // excluded, -logit, index
    for (int64_t e = 0; e < a.experts; ++e) {
      bool excluded = false;
      if (a.drop > 0) {
        const auto element = static_cast<uint64_t>(row % a.rows_per_sequence * a.experts + e);
        excluded = static_cast<double>(dropout_uniform(*a.rng, static_cast<uint64_t>(row / a.rows_per_sequence), a.site,
                                                       element)) < a.drop;
      }
      order.emplace_back(excluded, -a.logits[row * a.ld_logits + e], static_cast<int32_t>(e));
    }
    std::sort(order.begin(), order.end());
    for (int64_t j = 0; j < a.k; ++j)
      ids.push_back(static_cast<int32_t>(row % a.heads * a.experts) + std::get<2>(order[static_cast<size_t>(j)]));
  }
  return ids;
}

}  // namespace

TEST_CASE_TEMPLATE("top_k: literals", T, float, double) {
  const T log3 = static_cast<T>(std::log(3.0));
  const std::vector<T> logits{0, log3, -log3, 0};
  const Choice<T> c = run<T>({.rows = 1, .experts = 4, .k = 3, .logits = logits.data(), .ld_logits = 4});
  CHECK(c.expert == std::vector<int32_t>{1, 0, 3});  // of the two equal ones the lower index first
  CHECK(relative_error(c.gate, {0.75, 0.5, 0.5}) < 2 * kEpsilon<T>);

  const std::vector<T> saturated{50, 200, 900, -1e30, 3};  // three are exactly 1
  const Choice<T> s = run<T>({.rows = 1, .experts = 5, .k = 5, .logits = saturated.data(), .ld_logits = 5});
  CHECK(s.expert == std::vector<int32_t>{0, 1, 2, 4, 3});
  CHECK(s.gate[0] == 1);
  CHECK(s.gate[2] == 1);
  CHECK(s.gate[4] >= 0);

  const Choice<T> heads =
      run<T>({.rows = 2, .experts = 2, .k = 1, .heads = 2, .logits = logits.data(), .ld_logits = 2});
  CHECK(heads.expert == std::vector<int32_t>{1, 3});  // head 1 has the ids 2 and 3

  const std::vector<int32_t> forced{2, 3};
  const Choice<T> f = run<T>(
      {.rows = 2, .experts = 2, .k = 1, .heads = 2, .logits = logits.data(), .ld_logits = 2, .forced = forced.data()});
  CHECK(f.expert[1] == 3);
  CHECK(relative_error(std::vector<T>{f.gate[1]}, {0.5}) < kEpsilon<T>);
}

TEST_CASE_TEMPLATE("top_k: odd shapes, heads, dropout and ties against sorting", T, float, double) {
  struct Shape {
    int64_t sequences, rows_per_sequence, experts, k, heads;
  };
  const RngState rng{.seed = 3, .first_sample = 11};
  for (const Shape& s : {Shape{1, 1, 1, 1, 1}, Shape{2, 35, 155, 12, 1}, Shape{1, 64, 10, 2, 4}, Shape{3, 7, 600, 9, 1},
                         Shape{1, 33, 300, 300, 3}}) {
    for (const double drop : {0.0, 0.2, 0.98}) {
      CAPTURE(s.experts);
      CAPTURE(drop);
      const int64_t rows = s.sequences * s.rows_per_sequence, ld = s.experts + 2;
      const auto logits = grid_logits<T>(rows * ld, 40);
      const kernels::TopK<T> args{.rows = rows,
                                  .experts = s.experts,
                                  .k = s.k,
                                  .heads = s.heads,
                                  .logits = logits.data(),
                                  .ld_logits = ld,
                                  .drop = drop,
                                  .rng = &rng,
                                  .site = 5,
                                  .rows_per_sequence = s.rows_per_sequence};
      const auto expected = reference(args);
      CHECK(same_on_any_threads([&] { return run(args).expert; }) == expected);
      const auto gate = same_on_any_threads([&] { return run(args).gate; });
      std::vector<double> p;
      for (size_t i = 0; i < expected.size(); ++i) {
        const auto row = static_cast<int64_t>(i) / s.k;
        p.push_back(
            1 / (1 + std::exp(-static_cast<double>(logits[static_cast<size_t>(row * ld + expected[i] % s.experts)]))));
      }
      CHECK(relative_error(gate, p) < 2 * kEpsilon<T>);
    }
  }
}

TEST_CASE_TEMPLATE("top_k: a NaN is chosen first and stays NaN, so that it shows", T, float, double) {
  const T nan = std::numeric_limits<T>::quiet_NaN();
  const std::vector<T> logits{5, nan, 6, nan, 7, nan};
  const Choice<T> c = run<T>({.rows = 1, .experts = 6, .k = 4, .logits = logits.data(), .ld_logits = 6});
  CHECK(c.expert == std::vector<int32_t>{1, 3, 5, 4});
  CHECK(std::isnan(c.gate[0]));
  CHECK(std::isnan(c.gate[2]));
  CHECK_FALSE(std::isnan(c.gate[3]));
}

TEST_CASE_TEMPLATE("top_k_backward: literals and modes", T, float, double) {
  const std::vector<int32_t> ids{2, 0, 4, 3};  // the second row belongs to head 1, whose ids are 3 to 5
  const std::vector<T> gate{0.5, 0.75, 1, 0.25}, dgate{8, 16, 100, -16};
  auto dlogits = unset<T>(8);
  kernels::TopKBackward<T> args{.rows = 2,
                                .experts = 3,
                                .k = 2,
                                .expert = ids.data(),
                                .gate = gate.data(),
                                .dgate = dgate.data(),
                                .dlogits = dlogits.data(),
                                .ld_dlogits = 4};
  kernels::top_k_backward<T>(Cpu{}, Launch{}, args);
  CHECK(std::isnan(dlogits[3]));  // the gap between pitched rows
  dlogits[3] = dlogits[7] = 0;
  CHECK(dlogits == std::vector<T>{3, 0, 2, 0, -3, 0, 0, 0});
  args.mode = Mode::accumulate;
  kernels::top_k_backward<T>(Cpu{}, Launch{}, args);
  CHECK(dlogits == std::vector<T>{6, 0, 4, 0, -6, 0, 0, 0});
}

TEST_CASE("sort_pairs: literals") {
  const std::vector<int32_t> expert{2, 0, 2, 3, 0};
  std::vector<int32_t> order(5, -1), place(5, -1), offsets(6, -1);
  kernels::sort_pairs(Cpu{}, Launch{}, 5, 5, expert.data(), order.data(), place.data(), offsets.data());
  CHECK(order == std::vector<int32_t>{1, 4, 0, 2, 3});
  CHECK(place == std::vector<int32_t>{2, 0, 3, 4, 1});
  CHECK(offsets == std::vector<int32_t>{0, 2, 2, 4, 5, 5});
}

TEST_CASE("sort_pairs: against a stable sort, with experts that get nothing") {
  for (const auto& [pairs, experts] : {std::pair<int64_t, int64_t>{0, 3}, {1, 1}, {1000, 7}, {6144, 155}, {50, 400}}) {
    Rng rng(8, static_cast<uint64_t>(pairs));
    std::vector<int32_t> expert;
    for (int64_t s = 0; s < pairs; ++s)
      expert.push_back(static_cast<int32_t>(rng.uniform() * static_cast<double>(experts)));
    std::vector<int32_t> expected(expert.size());
    std::iota(expected.begin(), expected.end(), 0);
    std::sort(expected.begin(), expected.end(), [&](int32_t a, int32_t b) {
      return std::pair(expert[static_cast<size_t>(a)], a) < std::pair(expert[static_cast<size_t>(b)], b);
    });
    std::vector<int32_t> order(expert.size(), -1), place(expert.size(), -1),
        offsets(static_cast<size_t>(experts) + 1, -1);
    kernels::sort_pairs(Cpu{}, Launch{}, pairs, experts, expert.data(), order.data(), place.data(), offsets.data());
    CHECK(order == expected);
    for (size_t r = 0; r < order.size(); ++r) REQUIRE(place[static_cast<size_t>(order[r])] == static_cast<int32_t>(r));
    for (int64_t e = 0; e < experts; ++e) {
      const auto count = std::count(expert.begin(), expert.end(), static_cast<int32_t>(e));
      REQUIRE(offsets[static_cast<size_t>(e) + 1] - offsets[static_cast<size_t>(e)] == count);
    }
    CHECK(offsets[0] == 0);
  }
}
