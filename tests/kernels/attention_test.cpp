#include "kernels/attention.h"

#include <algorithm>
#include <string>

#include "tests/kernels/kernel_testing.h"

namespace moeut::kernels {

namespace {

using namespace moeut::testing;

struct Size {
  int64_t batch, heads, q_len, k_len, head_dim;
};

/// The rows of q are pitched, and k has room for more rows, as in a cache.
AttentionShape shape_of(const Size& s) {
  const int64_t q_row = s.heads * s.head_dim + 3, kv_row = s.heads * s.head_dim + 1;
  return {.batch = s.batch,
          .heads = s.heads,
          .q_len = s.q_len,
          .k_len = s.k_len,
          .head_dim = s.head_dim,
          .q_row_stride = q_row,
          .q_batch_stride = s.q_len * q_row + 5,
          .kv_row_stride = kv_row,
          .kv_batch_stride = (s.k_len + 2) * kv_row};
}

struct Masks {
  bool causal;
  int position;  ///< 0: none, 1: shared by the batch, 2: one a sequence
  bool keys;
};
const std::vector<Masks> kMasks = {{false, 0, false}, {true, 0, false}, {false, 1, false}, {false, 2, false},
                                   {false, 0, true},  {true, 0, true},  {false, 2, true},  {true, 2, true}};

/// One call's operands and masks; and the definition of attention, in float64 with plain loops.
template <class T>
class Case {
 public:
  Case(const Size& size, const Masks& masks) : s(shape_of(size)) {
    const double scale = std::pow(static_cast<double>(s.head_dim), -0.25);  // scores of about 1
    q = random_values<T>(s.batch * s.q_batch_stride, 1, scale),
    k = random_values<T>(s.batch * s.kv_batch_stride, 2, scale);
    v = random_values<T>(s.batch * s.kv_batch_stride, 3), dout = random_values<T>(s.batch * s.q_batch_stride, 4);
    Rng rng(11, 5);
    if (masks.position > 0) {
      position_.resize(static_cast<size_t>((masks.position == 2 ? s.batch : 1) * s.q_len * s.k_len));
      for (uint8_t& x : position_) x = rng.uniform() < 0.4 ? 1 : 0;
      std::fill_n(position_.begin() + (s.q_len - 1) * s.k_len, s.k_len, uint8_t{3});  // this query sees nothing
    }
    if (masks.keys) {
      keys_.resize(static_cast<size_t>(s.batch * s.k_len));
      for (uint8_t& x : keys_) x = rng.uniform() < 0.4 ? 1 : 0;
    }
    mask = {masks.causal, position_.empty() ? nullptr : position_.data(), masks.position == 2 ? s.q_len * s.k_len : 0,
            keys_.empty() ? nullptr : keys_.data()};
    define();
  }
  Case(const Case&) = delete;

  /// out of the kernel, then lse; dense.
  std::vector<T> forward() const {
    std::vector<T> result = unset<T>(s.batch * s.q_batch_stride), result_lse = unset<T>(s.batch * s.heads * s.q_len);
    Workspace workspace(attention_forward_workspace_bytes<T>(Cpu{}, s, mask));
    attention_forward<T>(Cpu{}, workspace, {s, mask, q.data(), k.data(), v.data(), result.data(), result_lse.data()});
    return joined(q_elements(result), result_lse);
  }

  /// dq, dk, dv of the kernel, one after the other, dense; from the definition's out and lse.
  std::vector<T> backward(Mode mode) const {
    std::vector<T> d_q = start(mode, s.batch * s.q_batch_stride, 6), d_k = start(mode, s.batch * s.kv_batch_stride, 7),
                   d_v = start(mode, s.batch * s.kv_batch_stride, 8);
    std::vector<T> out_t = unset<T>(s.batch * s.q_batch_stride), lse_t(lse.begin(), lse.end());
    for_each_query([&](int64_t b, int64_t h, int64_t i) {
      for (int64_t p = 0; p < s.head_dim; ++p) out_t[q_index(b, i, h, p)] = static_cast<T>(out[q_index(b, i, h, p)]);
    });
    Workspace workspace(attention_backward_workspace_bytes<T>(Cpu{}, s, mask));
    attention_backward<T>(Cpu{}, workspace,
                          {s, mask, q.data(), k.data(), v.data(), out_t.data(), lse_t.data(), dout.data(), d_q.data(),
                           d_k.data(), d_v.data(), mode, mode, mode});
    return joined(q_elements(d_q), joined(kv_elements(d_k), kv_elements(d_v)));
  }

  static std::vector<T> start(Mode mode, int64_t n, uint64_t stream) {
    return mode == Mode::overwrite ? unset<T>(n) : random_values<T>(n, stream);
  }

  size_t q_index(int64_t b, int64_t i, int64_t h, int64_t p) const {
    return static_cast<size_t>(b * s.q_batch_stride + i * s.q_row_stride + h * s.head_dim + p);
  }
  size_t kv_index(int64_t b, int64_t j, int64_t h, int64_t p) const {
    return static_cast<size_t>(b * s.kv_batch_stride + j * s.kv_row_stride + h * s.head_dim + p);
  }
  template <class U>
  std::vector<U> q_elements(const std::vector<U>& x) const {
    std::vector<U> dense;
    for_each_query([&](int64_t b, int64_t h, int64_t i) {
      for (int64_t p = 0; p < s.head_dim; ++p) dense.push_back(x[q_index(b, i, h, p)]);
    });
    return dense;
  }
  template <class U>
  std::vector<U> kv_elements(const std::vector<U>& x) const {
    std::vector<U> dense;
    for (int64_t b = 0; b < s.batch; ++b) {
      for (int64_t j = 0; j < s.k_len; ++j) {
        for (int64_t hp = 0; hp < s.heads * s.head_dim; ++hp) dense.push_back(x[kv_index(b, j, 0, hp)]);
      }
    }
    return dense;
  }

  AttentionShape s;
  AttentionMask mask;
  std::vector<T> q, k, v, dout;
  std::vector<double> out, lse, dq, dk, dv;  ///< by the definition; laid out like their operands, unset elements 0

 private:
  template <class F>
  void for_each_query(F&& f) const {
    for (int64_t b = 0; b < s.batch; ++b) {
      for (int64_t h = 0; h < s.heads; ++h) {
        for (int64_t i = 0; i < s.q_len; ++i) f(b, h, i);
      }
    }
  }

  bool removed(int64_t b, int64_t i, int64_t j) const {
    if (mask.causal && j > i + s.k_len - s.q_len) return true;
    if (!keys_.empty() && keys_[static_cast<size_t>(b * s.k_len + j)] != 0) return true;
    return !position_.empty() && position_[static_cast<size_t>(b * mask.position_batch_stride + i * s.k_len + j)] != 0;
  }

  double dot(const std::vector<T>& x, size_t xi, const std::vector<T>& y, size_t yi) const {
    double sum = 0;
    for (size_t p = 0; p < static_cast<size_t>(s.head_dim); ++p)
      sum += static_cast<double>(x[xi + p]) * static_cast<double>(y[yi + p]);
    return sum;
  }

  void define() {
    out.assign(q.size(), 0), dq.assign(q.size(), 0), dk.assign(k.size(), 0), dv.assign(k.size(), 0);
    for_each_query([&](int64_t b, int64_t h, int64_t i) { define_query(b, h, i); });
  }

  void define_query(int64_t b, int64_t h, int64_t i) {
    std::vector<double> weight(static_cast<size_t>(s.k_len), 0.0), dweight = weight;
    const size_t at_q = q_index(b, i, h, 0);
    double sum = 0, mean = 0;
    for (int64_t j = 0; j < s.k_len; ++j) {
      if (!removed(b, i, j)) sum += weight[static_cast<size_t>(j)] = std::exp(dot(q, at_q, k, kv_index(b, j, h, 0)));
    }
    lse.push_back(std::log(sum));
    if (sum == 0) return;
    for (int64_t j = 0; j < s.k_len; ++j) {
      double& w = weight[static_cast<size_t>(j)];
      w /= sum;
      mean += w * (dweight[static_cast<size_t>(j)] = dot(dout, at_q, v, kv_index(b, j, h, 0)));
    }
    for (int64_t j = 0; j < s.k_len; ++j) {
      const double w = weight[static_cast<size_t>(j)], dscore = w * (dweight[static_cast<size_t>(j)] - mean);
      for (size_t p = 0; p < static_cast<size_t>(s.head_dim); ++p) {
        const size_t at_k = kv_index(b, j, h, 0) + p;
        out[at_q + p] += w * static_cast<double>(v[at_k]);
        dq[at_q + p] += dscore * static_cast<double>(k[at_k]);
        dk[at_k] += dscore * static_cast<double>(q[at_q + p]);
        dv[at_k] += w * static_cast<double>(dout[at_q + p]);
      }
    }
  }

  std::vector<uint8_t> position_, keys_;
};

double norm(const std::vector<double>& x) {
  double sum = 0;
  for (double v : x) sum += v * v;
  return std::sqrt(sum);
}

/// ‖actual - expected‖₂, infinity if an element is not finite.
template <class T>
double distance(const std::vector<T>& actual, const std::vector<double>& expected) {
  const double size = norm(expected);
  return relative_error(actual, expected) * (size > 0 ? size : 1);
}

/// A score of about 1 is a sum of P products; exp turns its absolute error into a relative one; lse (below 8) adds its
/// rounding; the second product sums Tk terms.
template <class T>
double forward_tolerance(const AttentionShape& s) {
  return kEpsilon<T> * (std::sqrt(static_cast<double>(s.head_dim)) + std::sqrt(static_cast<double>(s.k_len)) + 10);
}

const std::vector<Size> kSizes = {{1, 1, 1, 1, 1},     {2, 3, 5, 5, 20},    {1, 2, 70, 70, 82},  {2, 1, 3, 130, 5},
                                  {3, 4, 1, 300, 20},  {1, 2, 150, 100, 8}, {1, 2, 130, 600, 4}, {1, 1, 200, 1100, 5},
                                  {17, 2, 65, 520, 2}, {2, 1, 4, 7, 412},   {1, 1, 600, 600, 3}};

template <class F>
void for_each_case(F&& f) {
  for (const Size& size : kSizes) {
    for (const Masks& masks : kMasks) {
      INFO("B ", size.batch, " H ", size.heads, " Tq ", size.q_len, " Tk ", size.k_len, " P ", size.head_dim,
           " causal ", masks.causal, " position ", masks.position, " keys ", masks.keys);
      f(size, masks);
    }
  }
}

}  // namespace

TEST_CASE_TEMPLATE("attention by hand", T, float, double) {
  // Two queries, two keys: scores (0, log 3) and (0, 0); causal: the first query sees the first key alone.
  const T log3 = static_cast<T>(std::log(3.0));
  const std::vector<T> q = {1, 0}, k = {0, log3}, v = {8, 16};
  std::vector<T> out = unset<T>(2), lse = unset<T>(2);
  const AttentionShape s{.batch = 1,
                         .heads = 1,
                         .q_len = 2,
                         .k_len = 2,
                         .head_dim = 1,
                         .q_row_stride = 1,
                         .q_batch_stride = 2,
                         .kv_row_stride = 1,
                         .kv_batch_stride = 2};
  Workspace workspace(attention_forward_workspace_bytes<T>(Cpu{}, s, {}));
  AttentionForward<T> args{s, {}, q.data(), k.data(), v.data(), out.data(), lse.data()};
  attention_forward(Cpu{}, workspace, args);
  CHECK(relative_error(out, {14, 12}) < 4 * kEpsilon<T>);
  CHECK(relative_error(lse, {std::log(4.0), std::log(2.0)}) < 4 * kEpsilon<T>);
  args.mask.causal = true;
  attention_forward(Cpu{}, workspace, args);
  CHECK(out == std::vector<T>{8, 12});
  // dout = 1: dv sums the columns of P = (1, 0; 1/2, 1/2); dP = v, so the second row's dS = 1/2 (8 - 12), 1/2 (16 -
  // 12).
  const std::vector<T> dout = {1, 1};
  std::vector<T> dq = unset<T>(2), dk = unset<T>(2), dv = unset<T>(2);
  Workspace backward_workspace(attention_backward_workspace_bytes<T>(Cpu{}, s, args.mask));
  attention_backward<T>(Cpu{}, backward_workspace,
                        {s, args.mask, q.data(), k.data(), v.data(), out.data(), lse.data(), dout.data(), dq.data(),
                         dk.data(), dv.data()});
  CHECK(relative_error(dv, {1.5, 0.5}) < 4 * kEpsilon<T>);
  CHECK(relative_error(dq, {0, 2 * std::log(3.0)}) < 4 * kEpsilon<T>);
  CHECK(relative_error(dk, {0, 0}) < 4 * kEpsilon<T>);  // q of the second query is 0; the first has no choice
}

TEST_CASE_TEMPLATE("attention forward against plain loops, with all masks", T, float, double) {
  for_each_case([](const Size& size, const Masks& masks) {
    const Case<T> c(size, masks);
    const std::vector<T> result = c.forward();
    const auto lse_begin = result.end() - static_cast<int64_t>(c.lse.size());
    CHECK(relative_error(std::vector<T>(result.begin(), lse_begin), c.q_elements(c.out)) <= forward_tolerance<T>(c.s));
    for (size_t i = 0; i < c.lse.size(); ++i) {
      const double actual = static_cast<double>(lse_begin[static_cast<int64_t>(i)]);
      const bool same =
          std::isinf(c.lse[i]) ? actual == c.lse[i] : std::abs(actual - c.lse[i]) <= 8 * forward_tolerance<T>(c.s);
      CHECK(same);
    }
  });
}

TEST_CASE_TEMPLATE("attention backward against plain loops, with all masks and both modes", T, float, double) {
  for_each_case([](const Size& size, const Masks& masks) {
    const Case<T> c(size, masks);
    const std::vector<double> expected = joined(c.q_elements(c.dq), joined(c.kv_elements(c.dk), c.kv_elements(c.dv)));
    // dS = P (dP - delta) has the rounding of dP, which does not shrink where the two are equal (one visible key): the
    // error is measured against dout and the result together. The products sum up to Tk and Tq terms.
    const double tolerance = 2 * forward_tolerance<T>(c.s) + kEpsilon<T> * std::sqrt(static_cast<double>(size.q_len));
    const double scale = norm(expected) + norm(in_double(c.dout));
    CHECK(distance(c.backward(Mode::overwrite), expected) <= tolerance * scale);
    using C = Case<T>;
    const std::vector<T> before =
        joined(c.q_elements(C::start(Mode::accumulate, c.s.batch * c.s.q_batch_stride, 6)),
               joined(c.kv_elements(C::start(Mode::accumulate, c.s.batch * c.s.kv_batch_stride, 7)),
                      c.kv_elements(C::start(Mode::accumulate, c.s.batch * c.s.kv_batch_stride, 8))));
    CHECK(distance(c.backward(Mode::accumulate), sum_of(before, expected)) <=
          tolerance * (scale + norm(in_double(before))));
  });
}

TEST_CASE_TEMPLATE("a query that sees nothing gets 0 and gives nothing", T, float, double) {
  Case<T> c({1, 2, 6, 6, 4}, {false, 1, false});  // the last query's mask is full
  const std::vector<T> forward = c.forward();
  for (int64_t h = 0; h < 2; ++h) {
    const auto row = forward.begin() + (h * 6 + 5) * 4;
    CHECK(std::all_of(row, row + 4, [](T x) { return x == 0; }));
    CHECK(forward[static_cast<size_t>(2 * 6 * 4 + h * 6 + 5)] == -std::numeric_limits<T>::infinity());
  }
  const std::vector<T> before = c.backward(Mode::overwrite);
  for (int64_t h = 0; h < 2; ++h) CHECK(before[static_cast<size_t>((h * 6 + 5) * 4)] == 0);
  for (int64_t hp = 0; hp < 8; ++hp) c.dout[c.q_index(0, 5, 0, hp)] += T(1000);
  CHECK(c.backward(Mode::overwrite) == before);
}

TEST_CASE_TEMPLATE("attention without keys gives zeros", T, float, double) {
  const Case<T> c({2, 2, 3, 0, 4}, {true, 0, false});
  const std::vector<T> forward = c.forward(), backward = c.backward(Mode::overwrite);
  CHECK(std::count(forward.begin(), forward.end(), T(0)) == 48);
  CHECK(std::count(backward.begin(), backward.end(), T(0)) == 48);
}

TEST_CASE_TEMPLATE("large scores stay finite, and NaN is not hidden", T, float, double) {
  Case<T> c({1, 1, 4, 40, 8}, {true, 0, false});
  for (T& x : c.q) x *= T(1e4);
  for (T x : c.forward()) CHECK(std::isfinite(x));
  c.q[0] = std::numeric_limits<T>::quiet_NaN();
  CHECK(std::isnan(c.forward()[0]));
}

TEST_CASE_TEMPLATE("attention has the same bits on any number of threads", T, float, double) {
  for (const Size& size : {Size{2, 2, 150, 150, 20}, Size{1, 2, 70, 1100, 5}, Size{2, 4, 1, 700, 82}}) {
    const Case<T> c(size, {true, 2, true});
    same_on_any_threads([&] { return joined(c.forward(), c.backward(Mode::overwrite)); });
  }
}

}  // namespace moeut::kernels
