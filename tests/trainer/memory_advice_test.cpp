// What is advised when a step does not fit must fit.
#include "trainer/memory_advice.h"

#include <doctest/doctest.h>

#include "trainer/memory_plan.h"

using namespace moeut;

namespace {

ModelConfig small_model() {
  return {.n_tokens = 300,
          .d_model = 48,
          .n_layers = 8,
          .n_heads = 2,
          .ff_n_experts = 10,
          .att_n_experts = 3,
          .ff_k = 3,
          .ff_expert_size = 32};
}

RunConfig config_of(int64_t batch_size, int64_t micro_batch_size, bool recompute) {
  RunConfig config;
  config.train.batch_size = batch_size;
  config.train.micro_batch_size = micro_batch_size;
  config.train.seq_len = 64;
  config.train.recompute = recompute;
  return config;
}

size_t peak_of(const RunConfig& config) {
  return plan_memory(small_model(), {}, config.optimizer,
                     {.batch_size = config.train.batch_size,
                      .micro_batch_size = config.train.micro_batch_size,
                      .seq_len = config.train.seq_len,
                      .recompute = config.train.recompute})
      .peak;
}

/// The number behind `words`; -1 if they are not there.
int64_t number_behind(const std::string& text, const std::string& words, size_t from = 0) {
  const size_t at = text.find(words, from);
  return at == std::string::npos ? -1 : std::stoll(text.substr(at + words.size()));
}

}  // namespace

TEST_CASE("the advice names the largest halved micro-batch that fits, with and without recomputation") {
  const RunConfig asked = config_of(32, 0, false);
  for (const auto& [micro, recompute] : {std::pair{8, false}, {16, true}, {1, true}}) {
    const size_t fits = peak_of(config_of(32, micro, recompute));
    const size_t budget = fits + fits / 15;  // a twentieth of it stays free
    const std::string advice = memory_advice(asked, small_model(), {}, budget);
    CAPTURE(advice);
    const size_t second = advice.find(", or ");
    const bool both = second != std::string::npos;
    const int64_t plain = both || !recompute ? number_behind(advice, "train.micro_batch_size=") : 0;
    const int64_t again = number_behind(advice, "train.micro_batch_size=", both ? second : 0);
    if (recompute) {
      CHECK(again == micro);
      CHECK(advice.find("train.recompute=true") != std::string::npos);
    } else {
      CHECK(plain == micro);
    }
    if (plain > 0) {
      CHECK(peak_of(config_of(32, plain, false)) <= budget - budget / 20);
      CHECK(peak_of(config_of(32, 2 * plain, false)) > budget - budget / 20);
    }
    CHECK(peak_of(config_of(32, again, recompute || both)) <= budget - budget / 20);
  }
}

TEST_CASE("where nothing fits the advice says what is left") {
  const std::string advice = memory_advice(config_of(4, 0, false), small_model(), {}, 1 << 20);
  CHECK(advice.find("train.micro_batch_size=1 train.recompute=true it still needs") != std::string::npos);
  CHECK(advice.find("train.seq_len") != std::string::npos);
  const std::string already =
      memory_advice(config_of(4, 2, true), small_model(), {}, peak_of(config_of(4, 1, true)) * 16 / 15);
  CHECK(already.find("it would fit with train.micro_batch_size=1 (") != std::string::npos);
}
