// The FLOP formula against figures that ../shared/tools/roofline.py prints and against a sum made by hand.
#include "trainer/flops.h"

#include <doctest/doctest.h>

using namespace moeut;

TEST_CASE("the profiles' training FLOPs per token are those of roofline.py") {
  // Its train_flops with SEQ = 1024; all terms are whole numbers below 2^53, so equality is exact.
  const std::pair<const char*, double> expected[] = {{"44M", 260055168},   {"126M", 552983040},  {"244M", 950200320},
                                                     {"318M", 1243324416}, {"727M", 2845455360}, {"1B", 4046247936}};
  for (const auto& [name, flops] : expected) {
    CAPTURE(name);
    CHECK(train_flops_per_token(profile(name), 1024) == flops);
  }
  CHECK(train_flops_per_token(profile("44M"), 512) == 243933312);
}

TEST_CASE("each part of the 44M profile is that of roofline.py") {
  const ForwardMacs macs = forward_macs(profile("44M"), 512);
  CHECK(macs.experts == 20250624);
  CHECK(macs.router == 1021760);
  CHECK(macs.attention_experts == 8648704);
  CHECK(macs.attention_routers == 421888);
  CHECK(macs.queries_and_keys == 4324352);
  CHECK(macs.attention == 2692224);
  CHECK(macs.head == 3296000);
}

TEST_CASE("dense attention counts its two projections and its gate once") {
  const ModelConfig model{.n_tokens = 7,
                          .d_model = 10,
                          .n_layers = 4,
                          .n_heads = 2,
                          .ff_n_experts = 3,
                          .att_n_experts = 1,
                          .d_head = 6,
                          .ff_k = 2,
                          .ff_expert_size = 8};
  const ForwardMacs macs = forward_macs(model, 5);
  CHECK(macs.experts == 4 * 2 * 2 * 8 * 10);            // L · 2·K·S·D
  CHECK(macs.router == 4 * 3 * 10);                     // L · E·D
  CHECK(macs.attention_experts == 4 * 2 * 2 * 6 * 10);  // L · (value + output) · H·P·D
  CHECK(macs.attention_routers == 4 * 2 * 10);          // L · H·D
  CHECK(macs.queries_and_keys == 4 * 2 * 10 * 2 * 6);   // L · (q + k) · D·H·P
  CHECK(macs.attention == 4 * 2 * 2 * 6 * 3);           // L · (scores + sum) · H·P · mean of 1 … 5
  CHECK(macs.head == 70);                               // V·D
  CHECK(train_flops_per_token(model, 5) == 6 * macs.total());
}

TEST_CASE("d_head 0 stands for d_model / n_heads") {
  ModelConfig model = profile("126M");
  model.d_head = model.d_model / model.n_heads;
  const double stated = train_flops_per_token(model, 64);
  model.d_head = 0;
  CHECK(train_flops_per_token(model, 64) == stated);
}
