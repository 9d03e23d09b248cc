// Cached decoding equals the full forward pass, however the sequence is cut.
#include "tests/layers/golden_case.h"
#include "tests/layers/tiny_model.h"
#include "trainer/golden_config.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

/// Columns [0, columns) and rows [begin, begin + rows) of the last two dimensions of a mask (leading, all_rows, width).
Tensor part_of(const Tensor& mask, int64_t leading, int64_t all_rows, int64_t begin, int64_t rows, int64_t columns,
               const Shape& shape) {
  Tensor part = Tensor::empty(shape, DType::u8);
  const int64_t width = mask.shape().row_size();
  uint8_t* out = part.data<uint8_t>();
  for (int64_t i = 0; i < leading; ++i) {
    for (int64_t r = begin; r < begin + rows; ++r, out += columns)
      std::memcpy(out, mask.data<uint8_t>() + (i * all_rows + r) * width, static_cast<size_t>(columns));
  }
  return part;
}

/// Columns [begin, begin + count) of an i32 (B, T): a chunk's tokens.
Tensor columns_of(const Tensor& whole, int64_t begin, int64_t count) {
  const int64_t batch = whole.shape()[0], time = whole.shape()[1];
  Tensor part = Tensor::empty({batch, count}, DType::i32);
  for (int64_t b = 0; b < batch; ++b)
    std::copy_n(whole.data<int32_t>() + b * time + begin, count, part.data<int32_t>() + b * count);
  return part;
}

/// What queries [begin, begin + count) may see of the first begin + count keys.
AttentionMask mask_of_chunk(const AttentionMask& whole, int64_t begin, int64_t count) {
  AttentionMask mask{.causal = whole.causal};
  const int64_t keys = begin + count;
  if (whole.src_length_mask.defined()) {
    const int64_t batch = whole.src_length_mask.shape()[0];
    mask.src_length_mask = part_of(whole.src_length_mask, batch, 1, 0, 1, keys, {batch, keys});
  }
  if (whole.position_mask.defined()) {
    auto extents = whole.position_mask.shape().extents();
    const int64_t queries = extents[extents.size() - 2], leading = extents.size() == 3 ? extents[0] : 1;
    extents[extents.size() - 2] = count;
    extents.back() = keys;
    mask.position_mask = part_of(whole.position_mask, leading, queries, begin, count, keys, Shape(extents));
  }
  if (whole.first_key.defined()) mask.first_key = columns_of(whole.first_key, begin, count);
  return mask;
}

/// The largest relative L2 distance of a position's logits from the full pass's, chunk by chunk through a cache.
double worst_position(MoeutLm& model, const Tensor& tokens, const AttentionMask& mask, const Tensor& full,
                      const std::vector<int64_t>& chunks, Tape::Recording recording = Tape::Recording::off) {
  const int64_t batch = tokens.shape()[0], time = tokens.shape()[1], vocabulary = full.shape()[2];
  const OneThread quick;
  const auto cache = model.new_cache();
  double worst = 0;
  int64_t begin = 0;
  for (const int64_t count : chunks) {
    Tape tape(recording);
    ForwardContext context(tape);
    const MoeutLm::Options options{.mask = mask_of_chunk(mask, begin, count), .cache = cache};
    const MoeutOutput out = model.forward(context, columns_of(tokens, begin, count), options);
    CHECK(out.cache == cache);
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t t = 0; t < count; ++t) {
        const Tensor expected = full.reshape({batch * time, vocabulary}).slice(b * time + begin + t, 1);
        const Tensor actual = out.outputs.value().reshape({batch * count, vocabulary}).slice(b * count + t, 1);
        worst = std::max(worst, relative_l2(actual, expected));
      }
    }
    begin += count;
    CHECK(cache->length() == begin);
  }
  REQUIRE(begin == time);
  return worst;
}

std::vector<int64_t> chunks_of(int64_t size, int64_t time) {
  std::vector<int64_t> chunks;
  for (int64_t begin = 0; begin < time; begin += size) chunks.push_back(std::min(size, time - begin));
  return chunks;
}

std::vector<int64_t> random_chunks(int64_t time, uint64_t stream) {
  Rng rng(31, stream);
  std::vector<int64_t> chunks;
  for (int64_t left = time; left > 0; left -= chunks.back())
    chunks.push_back(1 + static_cast<int64_t>(rng.uniform() * rng.uniform() * static_cast<double>(left)));
  return chunks;
}

std::string text_of(const std::vector<int64_t>& chunks) {
  std::string text;
  for (const int64_t count : chunks) text += std::to_string(count) + " ";
  return text;
}

/// Chunks of one size, for sizes 1, 2, 3, a half, all but one and all; and random cuts.
std::vector<std::vector<int64_t>> cuts_of(int64_t time) {
  std::vector<std::vector<int64_t>> cuts;
  for (const int64_t size : {int64_t{1}, int64_t{2}, int64_t{3}, time / 2, time - 1, time})
    cuts.push_back(chunks_of(size, time));
  for (uint64_t stream = 0; stream < 3; ++stream) cuts.push_back(random_chunks(time, stream));
  return cuts;
}

/// The golden file's masks on top of the causal one: without that, a query would see keys that come only later.
void check_golden(const std::string& name, DType dtype, double limit) {
  CAPTURE(name);
  const Hdf5File file = open_golden(name);
  MoeutLm model(golden_model_config(file.string_attribute("config"), true), 1, {.dtype = dtype});
  load_parameters(file, model, dtype);
  const Tensor tokens = tensor_of<int32_t>(file, "input/tokens");
  AttentionMask mask = mask_of(file);
  mask.causal = true;
  const Tensor full = logits_of(model, tokens, {.mask = mask});
  for (const std::vector<int64_t>& chunks : cuts_of(tokens.shape()[1])) {
    CAPTURE(text_of(chunks));
    CHECK(worst_position(model, tokens, mask, full, chunks) <= limit);
  }
}

Tensor causal_positions(int64_t time) {
  Tensor mask = Tensor::zeros({time, time}, DType::u8);
  for (int64_t i = 0; i < time; ++i) std::fill_n(mask.data<uint8_t>() + i * time + i + 1, time - i - 1, uint8_t{1});
  return mask;
}

}  // namespace

// float64: 1e-10 is 1e5 roundings, float32: 1e-5 is 100; both bounds are the project's promise.
TEST_CASE("cached decoding equals the full pass in float64") {
  for (const std::string& name : golden_language_models()) check_golden(name, DType::f64, 1e-10);
}

TEST_CASE("cached decoding equals the full pass in float32") {
  for (const std::string& name : golden_language_models()) check_golden(name, DType::f32, 1e-5);
}

TEST_CASE("cached decoding: every cut of a short sequence") {
  MoeutLm model(tiny_config(), 3, kInF64);
  const Tensor tokens = random_ids({2, 6}, 13, 1);
  const Tensor full = logits_of(model, tokens);
  for (int cut_after = 0; cut_after < 32; ++cut_after) {  // bit t: a cut after token t
    std::vector<int64_t> chunks = {1};
    for (int t = 0; t < 5; ++t) (cut_after >> t & 1) ? chunks.push_back(1) : static_cast<void>(++chunks.back());
    CAPTURE(cut_after);
    CHECK(worst_position(model, tokens, {.causal = true}, full, chunks) <= 1e-12);
  }
}

TEST_CASE("cached decoding: masks of every kind, also without the causal flag") {
  const Tensor tokens = random_ids({2, 6}, 13, 1);
  const Tensor padding = mask_from({0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1}, {2, 6});
  const Tensor positions = causal_positions(6);
  const Tensor documents = Tensor::from<int32_t>({0, 0, 2, 2, 4, 4, 0, 1, 1, 1, 1, 5}, {2, 6});
  for (const int64_t att_experts : {1, 3}) {
    MoeutLm model(tiny_config([&](ModelConfig& c) { c.att_n_experts = att_experts; }), 3, kInF64);
    for (const AttentionMask& mask :
         {AttentionMask{.src_length_mask = padding, .causal = true}, AttentionMask{.position_mask = positions},
          AttentionMask{.src_length_mask = padding, .position_mask = positions},
          AttentionMask{.first_key = documents, .causal = true}}) {
      const Tensor full = logits_of(model, tokens, {.mask = mask});
      for (const std::vector<int64_t>& chunks : cuts_of(6))
        CHECK(worst_position(model, tokens, mask, full, chunks) <= 1e-12);
    }
  }
}

TEST_CASE("cached decoding: a narrow position mask sees all of the past") {
  MoeutLm model(tiny_config(), 3, kInF64);
  const Tensor tokens = random_ids({2, 5}, 13, 1);
  const Tensor full = logits_of(model, tokens);
  const auto cache = model.new_cache();
  logits_of(model, columns_of(tokens, 0, 3), {.cache = cache});
  const MoeutLm::Options options{.mask = AttentionMask{.position_mask = causal_positions(2)}, .cache = cache};
  const Tensor chunk = logits_of(model, columns_of(tokens, 3, 2), options);
  for (int64_t b = 0; b < 2; ++b) {
    CHECK(relative_l2(chunk.slice(b, 1), full.reshape({10, 13}).slice(b * 5 + 3, 2)) <= 1e-12);
  }
}

TEST_CASE("cached decoding while the tape records: the same logits, and the gradient of the last chunk") {
  MoeutLm model(tiny_config(), 3, kInF64);
  const Tensor tokens = random_ids({2, 6}, 13, 1);
  const Tensor full = logits_of(model, tokens);
  for (const std::vector<int64_t>& chunks : cuts_of(6))
    CHECK(worst_position(model, tokens, {.causal = true}, full, chunks, Tape::Recording::on) <= 1e-12);
  // An untouched past and a recorded chunk: the value path of the chunk reaches the parameters.
  const auto cache = model.new_cache();
  logits_of(model, columns_of(tokens, 0, 4), {.cache = cache});
  Tape tape;
  ForwardContext context(tape);
  const MoeutOutput out = model.forward(context, columns_of(tokens, 4, 2), {.mask = {}, .cache = cache});
  tape.backward_from({{out.outputs, random_tensor(out.outputs.shape(), 2)}});
  model.visit_parameters([](Parameter& p) {
    CAPTURE(p.name);
    CHECK(p.has_gradient);
    for (const double g : elements(p.gradient)) REQUIRE(std::isfinite(g));
  });
}

TEST_CASE("cached decoding: errors") {
  MoeutLm model(tiny_config(), 3, kInF64);
  const auto cache = model.new_cache();
  logits_of(model, random_ids({2, 3}, 13, 1), {.cache = cache});
  CHECK_THROWS_WITH_AS(logits_of(model, random_ids({1, 3}, 13, 1), {.cache = cache}),
                       "kv_cache: a chunk f64 (1, 3, 8) on cpu does not continue a cache f64 (2, 3, 8) on cpu",
                       ShapeError);
  CHECK_THROWS_WITH_AS(logits_of(model, random_ids({2, 1}, 13, 1), {.cache = std::make_shared<KvCache>(3)}),
                       "moeut: a cache of 3 applications for n_layers = 4", ShapeError);
}
