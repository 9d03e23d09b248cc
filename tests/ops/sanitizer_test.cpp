// Every CUDA kernel on small and ragged shapes: odd widths, empty experts, one row, every mask, every number format.
// Quick enough to be run under compute-sanitizer:  scripts/sanitize-gpu, or moeut-tests --test-suite=sanitizer
#include "autograd/ops/add.h"
#include "autograd/ops/append_time.h"
#include "autograd/ops/attention.h"
#include "autograd/ops/cross_entropy.h"
#include "autograd/ops/dropout.h"
#include "autograd/ops/embedding.h"
#include "autograd/ops/entropy.h"
#include "autograd/ops/expert_ffn.h"
#include "autograd/ops/expert_output.h"
#include "autograd/ops/expert_value.h"
#include "autograd/ops/head_gate.h"
#include "autograd/ops/layer_norm.h"
#include "autograd/ops/linear.h"
#include "autograd/ops/linear_cross_entropy.h"
#include "autograd/ops/rope.h"
#include "autograd/ops/route.h"
#include "tests/ops/device_testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

using Inputs = std::vector<Variable>;

DeviceInput narrow(const Shape& shape, uint64_t stream, double scale = 1) {
  return {random_tensor(shape, stream, scale), Taken::narrow};
}
DeviceInput wide(const Shape& shape, uint64_t stream) {
  return {random_tensor(shape, stream), Taken::wide};
}
DeviceInput parameter(const Shape& shape, uint64_t stream, double scale = 0.3) {
  return {random_tensor(shape, stream, scale), Taken::parameter};
}
DeviceInput logits(const Shape& shape, int64_t experts) {
  return {logits_without_ties(shape, experts, 90), Taken::wide};
}

void check(const std::string& name, auto op, const std::vector<DeviceInput>& inputs) {
  expect_same_on_cuda({name, op, inputs});
}

/// True, with a message, where there is no CUDA device to run on.
bool no_device() {
  if (cuda_device_count() > 0) return false;
  MESSAGE("skipped: no CUDA device");
  return true;
}

ops::DropoutSource dropout_source(Device device) {
  return {Tensor::from<uint64_t>({7, 100}, {2}).to(device), 3};
}

Tensor random_mask(const Shape& shape, uint64_t stream, Device device) {
  Rng rng(5, stream);
  Tensor mask = Tensor::zeros(shape, DType::u8);
  for (int64_t i = 0; i < mask.size(); ++i) mask.data<uint8_t>()[i] = rng.uniform() < 0.4 ? 1 : 0;
  return mask.to(device);
}

/// Documents of 1 to 60 keys; the first queries see some that no other does, and a few nothing.
Tensor document_starts(const Shape& queries, int64_t keys, Device device) {
  Tensor starts = Tensor::zeros(queries, DType::i32);
  for (int64_t i = 0; i < starts.size(); ++i) {
    const int64_t query = i % queries[1];
    starts.data<int32_t>()[i] = static_cast<int32_t>(query % 50 == 7 ? keys : query / 61 * 61);
  }
  return starts.to(device);
}

/// Tokens, experts, chosen experts, row width, hidden width.
struct ExpertSize {
  int64_t tokens, experts, k, width, hidden;
};
// Widths by the copies that they allow 16-bit rows: 16, 8, 4 bytes, none. Then one row; most experts without a pair;
// more rows an expert than a tile has; more columns, and a longer sum than a pipeline holds, for each width of a copy.
constexpr ExpertSize kExpertSizes[] = {
    {11, 5, 2, 24, 16}, {11, 5, 2, 20, 12},  {11, 5, 3, 22, 18},   {11, 5, 3, 21, 13},   {1, 1, 1, 7, 3},
    {5, 40, 3, 24, 8},  {150, 2, 2, 34, 17}, {20, 3, 2, 264, 136}, {20, 3, 2, 260, 132}, {20, 3, 2, 262, 134}};

}  // namespace

TEST_SUITE("sanitizer") {
  TEST_CASE("sanitizer: matrix products, bias and its gradient") {
    if (no_device()) return;
    const auto linear = [](Tape& t, const Inputs& x, DType) { return ops::linear(t, x[0], x[1]); };
    const auto to_wide = [](Tape& t, const Inputs& x, DType) {
      return ops::linear(t, x[0], x[1], {}, ops::LinearOutput::wide);
    };
    const auto biased = [](Tape& t, const Inputs& x, DType) { return ops::linear(t, x[0], x[1], x[2]); };
    for (const auto& [rows, out, in] : {std::array<int64_t, 3>{1, 1, 1}, {7, 13, 21}, {33, 40, 24}}) {
      check("linear", linear, {narrow({1, rows, in}, 1), parameter({out, in}, 2)});
      check("linear, wide output", to_wide, {narrow({1, rows, in}, 1), parameter({out, in}, 2)});
    }
    for (const int64_t rows : {1, 131})
      check("linear, bias", biased, {narrow({1, rows, 21}, 1), parameter({35, 21}, 2), wide({35}, 3)});
  }

  TEST_CASE("sanitizer: layer norm") {
    if (no_device()) return;
    const auto op = [](Tape& t, const Inputs& x, DType compute) {
      return ops::layer_norm(t, x[0], x[1], x[2], {.out = compute});
    };
    for (const auto& [rows, n] : {std::pair<int64_t, int64_t>{1, 3}, {5, 33}, {131, 41}, {3, 412}})
      check("layer_norm", op, {wide({1, rows, n}, 1), wide({n}, 2), wide({n}, 3)});
    // A stream of two blocks: what each of the outputs gives back, in place or not.
    const auto stream = [](Tape& t, const Inputs& x, DType compute) {
      const ops::NormedSum first = ops::layer_norm_of_sum(t, x[0], {}, x[2], x[3], {.out = compute});
      const ops::NormedSum second = ops::layer_norm_of_sum(t, first.h, x[1], x[2], x[3], {.out = compute});
      return ops::add(t, ops::add(t, first.narrow, second.narrow), ops::add(t, first.y, second.y));
    };
    for (const auto& [rows, n] :
         {std::pair<int64_t, int64_t>{1, 3}, {5, 1028}, {131, 41}, {4099, 12}, {2, 4096}, {2, 4100}, {3, 9001}})
      check("layer_norm_of_sum", stream, {wide({1, rows, n}, 1), wide({1, rows, n}, 4), wide({n}, 2), wide({n}, 3)});
  }

  TEST_CASE("sanitizer: what touches each element once") {
    if (no_device()) return;
    check("add", [](Tape& t, const Inputs& x, DType) { return ops::add(t, x[0], x[1]); },
          {narrow({3, 7, 11}, 1), narrow({3, 7, 11}, 2)});
    check("append_time",
          [](Tape& t, const Inputs& x, DType compute) {
            return ops::append_time(t, random_tensor({2, 3, 5}, 2, 1, compute).to(x[0].device()), x[0]);
          },
          {narrow({2, 1, 5}, 1)});
    check("dropout",
          [](Tape& t, const Inputs& x, DType) { return ops::dropout(t, x[0], 0.3, dropout_source(x[0].device())); },
          {narrow({3, 5, 7}, 1)});
    for (const int64_t head_dim : {1, 13, 40})
      check("head_gate", [](Tape& t, const Inputs& x, DType) { return ops::head_gate(t, x[0], x[1]); },
            {narrow({1, 5, 3 * head_dim}, 1), wide({1, 5, 3}, 2)});
    for (const auto& [head_dim, rotated] : {std::pair<int64_t, int64_t>{5, 4}, {9, 2}, {22, 10}, {6, 0}}) {
      check("rope",
            [n = rotated](Tape& t, const Inputs& x, DType) {
              return ops::rope(t, x[0], {.heads = 3, .n_rotate = n, .first_position = 19, .scale = 0.5});
            },
            {narrow({2, 5, 3 * head_dim}, 1)});
    }
  }

  TEST_CASE("sanitizer: embedding") {
    if (no_device()) return;
    for (const auto& [tokens, width] : {std::pair<int64_t, int64_t>{1, 3}, {29, 21}, {300, 40}}) {
      const Tensor ids = random_ids({1, tokens}, 50, 1);
      check("embedding",
            [ids](Tape& t, const Inputs& x, DType) { return ops::embedding(t, ids.to(x[0].device()), x[0]); },
            {wide({53, width}, 1)});
    }
  }

  TEST_CASE("sanitizer: attention under every mask") {
    if (no_device()) return;
    constexpr int64_t kBatch = 2, kHeads = 3;
    const auto masked = [&](const std::string& name, int64_t q_len, int64_t k_len, int64_t head_dim, bool causal,
                            bool keys, int position) {
      const auto op = [=](Tape& t, const Inputs& x, DType) {
        ops::AttentionMask mask{.causal = causal};
        if (keys) mask.src_length_mask = random_mask({kBatch, k_len}, 1, x[0].device());
        if (position == 1) mask.position_mask = random_mask({q_len, k_len}, 2, x[0].device());
        if (position == 2) mask.position_mask = random_mask({kBatch, q_len, k_len}, 3, x[0].device());
        if (position == 3) mask.first_key = document_starts({kBatch, q_len}, k_len, x[0].device());
        return ops::attention(t, x[0], x[1], x[2], kHeads, mask);
      };
      const int64_t width = kHeads * head_dim;
      const double scale = std::pow(static_cast<double>(head_dim), -0.25);  // scores of a standard deviation of 1
      check(name, op,
            {narrow({kBatch, q_len, width}, 1, scale), narrow({kBatch, k_len, width}, 2, scale),
             narrow({kBatch, k_len, width}, 3)});
    };
    for (const bool causal : {false, true}) {
      for (const bool keys : {false, true}) {
        for (int position = 0; position < 4; ++position) masked("masks", 19, 37, 22, causal, keys, position);
      }
    }
    for (const int64_t head_dim : {1, 5, 64, 82, 96, 128, 130}) masked("head sizes", 9, 9, head_dim, true, false, 0);
    masked("one query, as in decoding", 1, 37, 24, true, true, 0);
    masked("one query and two keys", 1, 2, 16, true, false, 0);  // (with one, gradients are 0)
    masked("several tiles", 70, 135, 16, true, false, 0);
    masked("documents in several tiles", 203, 203, 16, true, false, 3);
  }

  TEST_CASE("sanitizer: attention that cuDNN computes, where it is there") {
    if (no_device()) return;
    // Rows of heads that it takes as they are, and rows that are copied to wider ones.
    for (const auto& [length, head_dim] : {std::array<int64_t, 2>{150, 96}, {135, 45}}) {
      const int64_t heads = 2, width = heads * head_dim;
      const double scale = std::pow(static_cast<double>(head_dim), -0.25);  // scores of a standard deviation of 1
      check(
          "fused",
          [=](Tape& t, const Inputs& x, DType) { return ops::attention(t, x[0], x[1], x[2], heads, {.causal = true}); },
          {narrow({1, length, width}, 1, scale), narrow({1, length, width}, 2, scale), narrow({1, length, width}, 3)});
    }
  }

  TEST_CASE("sanitizer: routing") {
    if (no_device()) return;
    for (const auto& [heads, experts, k] :
         {std::array<int64_t, 3>{1, 7, 7}, {3, 5, 2}, {1, 387, 16}, {1, 700, 9}, {1, 1, 1}}) {
      for (const double drop : {0.0, 0.5}) {
        check("route",
              [=, h = heads, chosen = k](Tape& t, const Inputs& x, DType) {
                return ops::route(
                           t, x[0],
                           {.heads = h, .k = chosen, .expert_dropout = drop, .source = dropout_source(x[0].device())})
                    .gate;
              },
              {logits({2, 9, heads * experts}, experts)});
      }
    }
    const Tensor forced = Tensor::from<int32_t>({2, 1, 0, 2}, {2, 2});
    check("route, forced",
          [forced](Tape& t, const Inputs& x, DType) {
            return ops::route(t, x[0], {.k = 2, .forced = forced.to(x[0].device())}).gate;
          },
          {logits({1, 2, 3}, 3)});
  }

  TEST_CASE("sanitizer: routes are the CPU's, ties and all") {
    if (no_device()) return;
    for (const auto& [rows, experts, k] : {std::array<int64_t, 3>{1, 3, 1}, {300, 5, 2}, {700, 41, 3}, {9, 1500, 4}}) {
      Tensor tied = random_ids({1, rows, experts}, 4, 3);
      std::vector<float> values;
      for (const int32_t id : tied.to_vector<int32_t>()) values.push_back(static_cast<float>(id));
      const Tensor here = Tensor::from(values, tied.shape());
      Tape tape;
      const ops::Routing a = ops::route(tape, Variable(here), {.k = k});
      const ops::Routing b = ops::route(tape, Variable(here.to(Device::cuda())), {.k = k});
      expect_same_bits({b.expert, b.order, b.place, b.offsets}, {a.expert, a.order, a.place, a.offsets});
      trim(Device::cuda());
    }
  }

  TEST_CASE("sanitizer: feed-forward experts") {
    if (no_device()) return;
    for (const ExpertSize& s : kExpertSizes) {
      check("expert_ffn",
            [s](Tape& t, const Inputs& x, DType) {
              return ops::expert_ffn(t, x[0], x[1], x[2], ops::route(t, x[3], {.k = s.k}));
            },
            {narrow({1, s.tokens, s.width}, 1), parameter({s.experts, s.width, s.hidden}, 2),
             parameter({s.experts, s.hidden, s.width}, 3), logits({1, s.tokens, s.experts}, s.experts)});
    }
    check("expert_ffn, weights that are no parameters",
          [](Tape& t, const Inputs& x, DType) {
            return ops::expert_ffn(t, x[0], x[1], x[2], ops::route(t, x[3], {.k = 2}));
          },
          {narrow({1, 11, 22}, 1), narrow({5, 22, 18}, 2, 0.3), narrow({5, 18, 22}, 3, 0.3), logits({1, 11, 5}, 5)});
  }

  TEST_CASE("sanitizer: attention experts") {
    if (no_device()) return;
    for (const ExpertSize& s : kExpertSizes) {
      constexpr int64_t kHeads = 2;
      const auto route = [s](Tape& t, const Variable& l) { return ops::route(t, l, {.heads = kHeads, .k = s.k}); };
      const DeviceInput l = logits({1, s.tokens, kHeads * s.experts}, s.experts);
      check("expert_value",
            [=](Tape& t, const Inputs& x, DType) { return ops::expert_value(t, x[0], x[1], kHeads, route(t, x[2])); },
            {narrow({1, s.tokens, s.width}, 1), parameter({kHeads * s.experts, s.width, s.hidden}, 2), l});
      check("expert_output",
            [=](Tape& t, const Inputs& x, DType) { return ops::expert_output(t, x[0], x[1], kHeads, route(t, x[2])); },
            {narrow({1, s.tokens, kHeads * s.hidden}, 1), parameter({kHeads * s.experts, s.hidden, s.width}, 2), l});
    }
  }

  TEST_CASE("sanitizer: entropy regulariser") {
    if (no_device()) return;
    for (const auto& [heads, experts, time] : {std::array<int64_t, 3>{1, 2, 1}, {1, 387, 3}, {3, 5, 70}}) {
      const auto op = [h = heads](Tape& t, const Inputs& x, DType) {
        const std::vector<Variable> repeats = {x[0], x[1]};
        return ops::entropy(t, repeats, h, 0.5);
      };
      check("entropy", op, {wide({2, time, heads * experts}, 1), wide({2, time, heads * experts}, 2)});
    }
  }

  TEST_CASE("sanitizer: cross-entropy, with targets to be ignored") {
    if (no_device()) return;
    for (const auto& [rows, vocabulary] : {std::pair<int64_t, int64_t>{1, 2}, {5, 301}, {37, 24}}) {
      Tensor target = random_ids({1, rows}, vocabulary, 2);
      if (rows > 1) target.data<int32_t>()[rows / 2] = -1;
      check("cross_entropy",
            [target](Tape& t, const Inputs& x, DType) {
              return ops::cross_entropy(t, x[0], target.to(x[0].device()), 0.1).loss;
            },
            {narrow({1, rows, vocabulary}, 1)});
    }
    // Blocks of 128 rows: whole vectors, and rows that are pitched in 16 bits.
    for (const int64_t vocabulary : {40, 35}) {
      const Tensor target = random_ids({1, 150}, vocabulary, 2);
      check("linear_cross_entropy",
            [target](Tape& t, const Inputs& x, DType) {
              return ops::linear_cross_entropy(t, x[0], x[1], x[2], target.to(x[0].device()),
                                               {.scale = 0.1, .block_elements = 1000})
                  .loss;
            },
            {narrow({1, 150, 21}, 1), parameter({vocabulary, 21}, 2), wide({vocabulary}, 3)});
    }
  }
}
