#include "autograd/ops/attention.h"

#include "tests/ops/op_testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

struct Sizes {
  int64_t batch = 2, heads = 2, q_len = 3, k_len = 5, head_dim = 3;
};

std::vector<Tensor> inputs(const Sizes& s) {
  const int64_t width = s.heads * s.head_dim;
  return {random_tensor({s.batch, s.q_len, width}, 1), random_tensor({s.batch, s.k_len, width}, 2),
          random_tensor({s.batch, s.k_len, width}, 3)};
}

Op attention_with(int64_t heads, const ops::AttentionMask& mask) {
  return [=](Tape& tape, const std::vector<Variable>& x) {
    ops::AttentionMask there = mask;
    for (Tensor* m : {&there.src_length_mask, &there.position_mask, &there.first_key}) {
      if (m->defined()) *m = m->to(x[0].device());
    }
    return ops::attention(tape, x[0], x[1], x[2], heads, there);
  };
}

bool removed(const ops::AttentionMask& mask, const Sizes& s, int64_t b, int64_t i, int64_t j) {
  if (mask.causal && j > i + s.k_len - s.q_len) return true;
  if (mask.first_key.defined() && j < mask.first_key.data<int32_t>()[b * s.q_len + i]) return true;
  if (mask.src_length_mask.defined() && mask.src_length_mask.data<uint8_t>()[b * s.k_len + j]) return true;
  if (!mask.position_mask.defined()) return false;
  const int64_t sequence = mask.position_mask.shape().rank() == 3 ? b : 0;
  return mask.position_mask.data<uint8_t>()[(sequence * s.q_len + i) * s.k_len + j] != 0;
}

/// Scores, mask, softmax and weighted sum, one after the other.
Tensor composed(const std::vector<Tensor>& x, const Sizes& s, const ops::AttentionMask& mask) {
  Tensor out = Tensor::zeros(x[0].shape(), DType::f64);
  const int64_t p = s.head_dim, width = s.heads * p;
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t i = 0; i < s.q_len; ++i) {
      for (int64_t h = 0; h < s.heads; ++h) {
        const double* q = x[0].data<double>() + (b * s.q_len + i) * width + h * p;
        double* y = out.data<double>() + (b * s.q_len + i) * width + h * p;
        double sum = 0;
        for (int64_t j = 0; j < s.k_len; ++j) {
          if (removed(mask, s, b, i, j)) continue;
          const double* k = x[1].data<double>() + (b * s.k_len + j) * width + h * p;
          const double* v = x[2].data<double>() + (b * s.k_len + j) * width + h * p;
          double score = 0;
          for (int64_t d = 0; d < p; ++d) score += q[d] * k[d];
          sum += std::exp(score);
          for (int64_t d = 0; d < p; ++d) y[d] += std::exp(score) * v[d];
        }
        for (int64_t d = 0; d < p && sum > 0; ++d) y[d] /= sum;
      }
    }
  }
  return out;
}

Tensor random_mask(const Shape& shape, uint64_t stream) {
  Rng rng(5, stream);
  Tensor mask = Tensor::zeros(shape, DType::u8);
  for (int64_t i = 0; i < mask.size(); ++i) mask.data<uint8_t>()[i] = rng.uniform() < 0.4 ? 1 : 0;
  return mask;
}

/// From the first key on to none at all.
Tensor random_first_keys(const Sizes& s) {
  Rng rng(5, 4);
  Tensor first = Tensor::zeros({s.batch, s.q_len}, DType::i32);
  for (int64_t i = 0; i < first.size(); ++i) {
    first.data<int32_t>()[i] = static_cast<int32_t>(rng.uniform() * static_cast<double>(s.k_len + 1));
  }
  return first;
}

/// Where the document of each token begins: new ones at these places of every sequence.
Tensor document_starts(int64_t batch, int64_t length, const std::vector<int64_t>& begins) {
  Tensor starts = Tensor::zeros({batch, length}, DType::i32);
  for (int64_t i = 0; i < starts.size(); ++i) {
    for (const int64_t begin : begins) {
      if (begin <= i % length) starts.data<int32_t>()[i] = static_cast<int32_t>(begin);
    }
  }
  return starts;
}

/// Causal or not, keys or not, positions not at all, for all sequences, or for each, or by their first keys.
std::vector<ops::AttentionMask> all_masks(const Sizes& s) {
  std::vector<ops::AttentionMask> masks;
  for (const bool causal : {false, true}) {
    for (const bool keys : {false, true}) {
      for (int position = 0; position < 4; ++position) {
        ops::AttentionMask m{.causal = causal};
        if (keys) m.src_length_mask = random_mask({s.batch, s.k_len}, 1);
        if (position == 1) m.position_mask = random_mask({s.q_len, s.k_len}, 2);
        if (position == 2) m.position_mask = random_mask({s.batch, s.q_len, s.k_len}, 3);
        if (position == 3) m.first_key = random_first_keys(s);
        masks.push_back(m);
      }
    }
  }
  return masks;
}

}  // namespace

TEST_CASE("attention: values") {
  // Scores 0 and ln 3: weights 1/4 and 3/4.
  Tape tape;
  const Variable q(f64({1, 0}, {1, 1, 2})), k(f64({0, 5, std::log(3.0), 5}, {1, 2, 2})),
      v(f64({4, 8, 40, 80}, {1, 2, 2}));
  expect_close(ops::attention(tape, q, k, v, 1, {}).value(), {31, 62});
  // Two heads of one dim: head 0 as before, head 1 has q = 0 and takes the mean.
  expect_close(ops::attention(tape, q, k, v, 2, {}).value(), {31, 44});
  const Tensor second = Tensor::from<uint8_t>({0, 1}, {1, 2});
  expect_close(ops::attention(tape, q, k, v, 1, {.src_length_mask = second}).value(), {4, 8});
  expect_close(ops::attention(tape, q, k, v, 1, {.position_mask = second}).value(), {4, 8});
}

TEST_CASE("attention: causal aligns the last query with the last key") {
  Tape tape;
  const Variable q(f64({0, 0}, {1, 2, 1})), k(f64({0, 0, 0}, {1, 3, 1})), v(f64({3, 6, 30}, {1, 3, 1}));
  expect_close(ops::attention(tape, q, k, v, 1, {.causal = true}).value(), {4.5, 13});
}

TEST_CASE("attention: a query without keys gets 0 and passes no gradient") {
  Tape tape;
  const Variable q = tape.leaf(f64({1, 2}, {1, 2, 1})), k = tape.leaf(f64({3, 4}, {1, 2, 1})),
                 v = tape.leaf(f64({5, 6}, {1, 2, 1}));
  const Tensor all_of_first = Tensor::from<uint8_t>({1, 1, 0, 1}, {2, 2});
  const Variable y = ops::attention(tape, q, k, v, 1, {.position_mask = all_of_first});
  CHECK(elements(y.value()) == std::vector<double>{0, 5});
  tape.backward_from({{y, f64({100, 10}, {1, 2, 1})}});
  CHECK(elements(q.gradient()) == std::vector<double>{0, 0});
  CHECK(elements(k.gradient()) == std::vector<double>{0, 0});
  CHECK(elements(v.gradient()) == std::vector<double>{10, 0});
}

TEST_CASE("attention: fused equals composed under every combination of masks") {
  const Sizes s;
  for (const ops::AttentionMask& mask : all_masks(s)) {
    CAPTURE(mask.causal);
    CAPTURE(mask.src_length_mask.defined());
    CAPTURE(mask.position_mask.str());
    CAPTURE(mask.first_key.str());
    Tape tape;
    const std::vector<Tensor> x = inputs(s);
    expect_close(ops::attention(tape, Variable(x[0]), Variable(x[1]), Variable(x[2]), s.heads, mask).value(),
                 composed(x, s, mask));
    expect_true_gradients(attention_with(s.heads, mask), x);
  }
}

TEST_CASE("attention: backward") {
  const Sizes s;
  expect_sound_backward(attention_with(s.heads, all_masks(s).back()), inputs(s));
}

TEST_CASE("attention: one value as query, key and value") {
  const Op self = [](Tape& tape, const std::vector<Variable>& x) {
    return ops::attention(tape, x[0], x[0], x[0], 2, {.causal = true});
  };
  expect_true_gradients(self, {random_tensor({2, 4, 6}, 1)});
  expect_uses_add_up(self, {random_tensor({2, 4, 6}, 1)});
  expect_parameter_repeats_add_up(self, {random_tensor({2, 4, 6}, 1)});
}

TEST_CASE("attention: k_len leaves the room of a cache alone") {
  const Sizes s;
  const std::vector<Tensor> x = inputs(s);
  Tensor roomy[2];
  for (int i = 0; i < 2; ++i) {  // what lies behind k_len must never be read
    roomy[i] = Tensor::from(std::vector<double>(static_cast<size_t>(s.batch * 9 * 6), std::nan("")), {s.batch, 9, 6});
    for (int64_t b = 0; b < s.batch; ++b)
      std::memcpy(roomy[i].data<double>() + b * 9 * 6, x[static_cast<size_t>(i) + 1].data<double>() + b * s.k_len * 6,
                  static_cast<size_t>(s.k_len) * 6 * sizeof(double));
  }
  for (const ops::AttentionMask& mask : all_masks(s)) {
    Tape tape;
    const Variable y =
        ops::attention(tape, Variable(x[0]), Variable(roomy[0]), Variable(roomy[1]), s.heads, mask, s.k_len);
    CHECK(same_bits(y.value(),
                    ops::attention(tape, Variable(x[0]), Variable(x[1]), Variable(x[2]), s.heads, mask).value()));
  }
  Tape tape;
  CHECK_THROWS_WITH_AS(
      ops::attention(tape, Variable(x[0]), tape.leaf(roomy[0]), Variable(roomy[1]), s.heads, {}, s.k_len),
      "attention: 5 of 9 keys count; part of them can be used only without a gradient", ShapeError);
}

TEST_CASE("attention: errors") {
  Tape tape;
  const Variable q(Tensor::zeros({2, 3, 6}, DType::f64)), k(Tensor::zeros({2, 5, 6}, DType::f64));
  CHECK_THROWS_WITH_AS(ops::attention(tape, q, k, q, 2, {}),
                       "attention: q (B=2, T=3, HP=6), k (B=2, T=5, HP=6), v (B=2, T=3, HP=6) and 2 heads do not fit",
                       ShapeError);
  const Tensor narrow = Tensor::zeros({2, 3}, DType::u8);
  CHECK_THROWS_WITH_AS(ops::attention(tape, q, k, k, 2, {.first_key = narrow}),
                       "attention: first_key u8 (2, 3) on cpu should be i32 (B=2, Tq=3)", ShapeError);
  CHECK_THROWS_WITH_AS(ops::attention(tape, q, k, k, 2, {.src_length_mask = narrow}),
                       "attention: src_length_mask u8 (2, 3) on cpu should be u8 (B=2, Tk=5)", ShapeError);
  CHECK_THROWS_WITH_AS(ops::attention(tape, q, k, k, 2, {.position_mask = narrow}),
                       "attention: position_mask u8 (2, 3) on cpu should be u8 (Tq=3, Tk=5) or (B=2, Tq=3, Tk=5)",
                       ShapeError);
}

TEST_CASE("attention: reproducible") {
  const Sizes large{.batch = 2, .heads = 3, .q_len = 70, .k_len = 70, .head_dim = 16};
  expect_reproducible(attention_with(large.heads, {.causal = true}), inputs(large));
}

TEST_CASE("attention: every mask on every device") {
  const Sizes s{.batch = 2, .heads = 3, .q_len = 40, .k_len = 71, .head_dim = 22};
  for (const ops::AttentionMask& mask : all_masks(s)) expect_devices_agree(attention_with(s.heads, mask), inputs(s));
  const Sizes longer{.batch = 1, .heads = 2, .q_len = 150, .k_len = 150, .head_dim = 128};
  // Scores of 128 terms have a standard deviation of 11: exponentials multiply their rounding by as much.
  const Tensor documents = document_starts(1, 150, {1, 40, 64, 130});
  for (const ops::AttentionMask& mask : {ops::AttentionMask{.causal = true}, {.first_key = documents, .causal = true}})
    expect_devices_agree(attention_with(longer.heads, mask), inputs(longer), 4096);
}

TEST_CASE("attention: first_key is a position mask, over many tiles and threads") {
  const Sizes s{.batch = 2, .heads = 2, .q_len = 300, .k_len = 300, .head_dim = 8};
  ops::AttentionMask documents{.first_key = document_starts(2, 300, {3, 64, 65, 200}), .causal = true};
  ops::AttentionMask dense{.position_mask = Tensor::zeros({2, 300, 300}, DType::u8), .causal = true};
  for (int64_t row = 0; row < 600; ++row) {
    std::fill_n(dense.position_mask.data<uint8_t>() + row * 300, documents.first_key.data<int32_t>()[row], uint8_t{1});
  }
  const auto by_first_key = value_and_gradients(attention_with(s.heads, documents), inputs(s));
  const auto by_positions = value_and_gradients(attention_with(s.heads, dense), inputs(s));
  // Sums over the keys that are left, and over as many zeros before them: BLAS may divide them otherwise.
  for (size_t i = 0; i < 4; ++i) CHECK(relative_l2(by_first_key[i], by_positions[i]) <= 1e-15);
}
