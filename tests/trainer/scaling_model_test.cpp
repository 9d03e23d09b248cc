// The scaling model at its limits, and against sums made by hand.
#include "trainer/scaling_model.h"

#include <doctest/doctest.h>

#include <initializer_list>

using namespace moeut;

namespace {

constexpr double kEpsilon = 1e-12;  // sums of a few terms of one sign: some roundings

bool near(double a, double b) {
  return a == doctest::Approx(b).epsilon(kEpsilon);
}

/// Hosts of 4: 100 bytes/s and 2 s of latency within, 10 bytes/s and 3 s between.
const Cluster kSlow{.ranks_per_host = 4, .within = {100, 2}, .between = {10, 3}};
const Cluster kPerfect{};
const StepCost kCost{.forward = 1, .backward = 2, .optimizer = 0.5};
/// 1000 elements, 100 of them late; a tenth of the backward pass has final gradients.
const GradientVolume kVolume{
    .elements = 1000, .late_elements = 100, .operand_bytes = 2000, .tensors = 5, .final_share = 0.1};
/// Everything in one bucket.
DeviceExchange one_bucket(bool sharded = false) {
  return {.sharded = sharded, .bucket_bytes = 1e9};
}

}  // namespace

TEST_CASE("scaling: one rank exchanges nothing") {
  CHECK(all_reduce_seconds(kSlow, 1, 1e9) == 0);
  CHECK(reduce_scatter_seconds(kSlow, 1, 1e9, 7) == 0);
  for (const bool sharded : {false, true}) {
    const PredictedStep device = predict_device_step(kCost, kVolume, kSlow, {.sharded = sharded}, 1, 3);
    CHECK(device.exposed == 0);
    CHECK(device.hidden == 0);
    CHECK(device.seconds() == 3 * 3 + 0.5);
    const PredictedStep host = predict_host_step(kCost, kVolume, kSlow, {.sharded = sharded, .sum_seconds = 1}, 1, 3);
    CHECK(host.exposed == 0);
    CHECK(host.seconds() == 3 * 3 + 0.5);
  }
}

TEST_CASE("scaling: within a host an all-reduce is 2 (n - 1) / n of the bytes and 2 (n - 1) messages") {
  CHECK(near(all_reduce_seconds(kSlow, 2, 400), 2 * 0.5 * 400 / 100 + 2 * 2));       // 8
  CHECK(near(all_reduce_seconds(kSlow, 4, 400), 2 * 0.75 * 400 / 100 + 2 * 3 * 2));  // 18
  CHECK(near(reduce_scatter_seconds(kSlow, 4, 400), 0.75 * 400 / 100 + 3 * 2));      // 9
}

TEST_CASE("scaling: hosts add up a quarter each, by the faster of ring and tree") {
  // Within: 18 s, as above. Each rank's 100 bytes between 2 hosts, a ring: 2 · 1/2 · 100 / 10 + 2 · 3.
  CHECK(near(all_reduce_seconds(kSlow, 8, 400), 18 + 16));
  CHECK(near(reduce_scatter_seconds(kSlow, 8, 400), 9 + 8));
  // 16 hosts: the ring would take 2 · 15/16 · 10 + 30 · 3 = 108.75 s; the trees 2 · 10 + 2 · 4 · 3 = 44.
  CHECK(near(all_reduce_seconds(kSlow, 64, 400), 18 + 44));
  // 17 hosts are a level deeper.
  CHECK(near(all_reduce_seconds(kSlow, 68, 400), 18 + 50));
}

TEST_CASE("scaling: a part of a host is a host") {
  CHECK(kSlow.hosts(5) == 2);
  CHECK(kSlow.ranks_here(3) == 3);
  CHECK(kSlow.ranks_here(5) == 4);
}

TEST_CASE("scaling: links without cost give all of the speed") {
  for (const int64_t ranks : {2, 8, 4096}) {
    CAPTURE(ranks);
    const PredictedStep one = predict_device_step(kCost, kVolume, kPerfect, {}, 1, 2);
    const PredictedStep all = predict_device_step(kCost, kVolume, kPerfect, {}, ranks, 2 * ranks);
    CHECK(all.exposed == 0);
    CHECK(efficiency(one.seconds(), 2, all.seconds(), 2 * ranks, ranks) == doctest::Approx(1).epsilon(kEpsilon));
    const PredictedStep host = predict_host_step(kCost, kVolume, kPerfect, {}, ranks, 2 * ranks);
    CHECK(efficiency(one.seconds(), 2, host.seconds(), 2 * ranks, ranks) == doctest::Approx(1).epsilon(kEpsilon));
  }
}

TEST_CASE("scaling: a faster or quicker link never costs time") {
  for (const bool sharded : {false, true}) {
    double device = 1e30, host = 1e30;
    for (const double speed : {1.0, 2.0, 10.0, 1e3, 1e9}) {
      const Cluster cluster{
          .ranks_per_host = 4, .within = {100 * speed, 2 / speed}, .between = {10 * speed, 3 / speed}};
      const double d = predict_device_step(kCost, kVolume, cluster, {.sharded = sharded}, 16, 16).seconds();
      const double h = predict_host_step(kCost, kVolume, cluster, {.sharded = sharded}, 16, 16).seconds();
      CHECK(d < device);
      CHECK(h < host);
      device = d;
      host = h;
    }
  }
}

TEST_CASE("scaling: the last repeat of the last backward pass hides what fits into it") {
  // 2 ranks: early 3600 bytes 36 + 4 s, late 400 bytes 4 + 4 s, two losses of 8 bytes 0.16 + 4 s.
  const PredictedStep all = predict_device_step(kCost, kVolume, kSlow, one_bucket(), 2, 2);
  CHECK(near(all.hidden, 0.2));  // a tenth of 2 s
  CHECK(near(all.exposed, 36 + 4 - 0.2 + 4 + 4 + 0.16 + 4));
  CHECK(near(all.compute, 3));
  CHECK(near(all.optimizer, 0.5));

  const PredictedStep later = predict_device_step({1, 1000, 0.5}, kVolume, kSlow, one_bucket(), 2, 2);
  CHECK(near(later.hidden, 40));
  CHECK(near(later.exposed, 8 + 4.16));

  DeviceExchange no_overlap = one_bucket();
  no_overlap.overlap = false;
  CHECK(near(predict_device_step(kCost, kVolume, kSlow, no_overlap, 2, 2).exposed, 36 + 4 + 4 + 4 + 4.16));
}

TEST_CASE("scaling: every bucket has the latency of its own") {
  DeviceExchange how = one_bucket();
  const double one = predict_device_step(kCost, kVolume, kSlow, how, 2, 2).exposed;
  how.bucket_bytes = 1000;  // 3600 bytes leave in four
  CHECK(near(predict_device_step(kCost, kVolume, kSlow, how, 2, 2).exposed, one + 3 * 4));
}

TEST_CASE("scaling: every collective has a cost of its own") {
  Cluster cluster = kSlow;
  cluster.call_seconds = 7;
  CHECK(near(all_reduce_seconds(cluster, 8, 400), all_reduce_seconds(kSlow, 8, 400) + 7));
  CHECK(near(reduce_scatter_seconds(cluster, 8, 400), reduce_scatter_seconds(kSlow, 8, 400) + 7));
  CHECK(all_reduce_seconds(cluster, 1, 400) == 0);
  // Early, late, losses; with ZeRO-1 norm and operands as well.
  const auto more = [&](bool sharded) {
    return predict_device_step(kCost, kVolume, cluster, one_bucket(sharded), 2, 2).exposed -
           predict_device_step(kCost, kVolume, kSlow, one_bucket(sharded), 2, 2).exposed;
  };
  CHECK(near(more(false), 3 * 7));
  CHECK(near(more(true), 5 * 7));
}

TEST_CASE("scaling: hidden communication takes a part of the backward pass's speed") {
  DeviceExchange how = one_bucket();
  const PredictedStep free = predict_device_step(kCost, kVolume, kSlow, how, 2, 2);
  how.contention = 0.5;
  const PredictedStep half = predict_device_step(kCost, kVolume, kSlow, how, 2, 2);
  CHECK(half.hidden == free.hidden);
  CHECK(near(half.exposed, free.exposed + 0.5 * free.hidden));
}

TEST_CASE("scaling: bf16 gradients are half of the bytes") {
  DeviceExchange how = one_bucket();
  how.gradient_bytes = 2;
  CHECK(near(predict_device_step(kCost, kVolume, kSlow, how, 2, 2).exposed, 18 + 4 - 0.2 + 2 + 4 + 4.16));
}

TEST_CASE("scaling: ZeRO-1 sends half as much of the gradients, and the operands instead of the rest") {
  // 4 ranks, one host. Sums: 3/4 of 3600 and of 400 bytes, 3 messages each; rooted calls: 5 tensors + 4 owners, 8 of
  // them early; losses 16 bytes, norm 8 bytes; operands 3/4 of 2000 bytes, 3 messages and 9 calls.
  const PredictedStep step = predict_device_step(kCost, kVolume, kSlow, one_bucket(true), 4, 4);
  const double early = 27 + 6 + 8 * 2, late = 3 + 6 + 2, small = 0.24 + 12 + 0.12 + 12, operands = 15 + 6 + 9 * 2;
  CHECK(near(step.exposed, early - 0.2 + late + small + operands));
  CHECK(near(step.optimizer, 0.125));
}

TEST_CASE("scaling: fewer micro-batches a rank, as even as it goes") {
  CHECK(predict_device_step(kCost, kVolume, kSlow, {}, 4, 8).micro_batches == 2);
  CHECK(predict_device_step(kCost, kVolume, kSlow, {}, 4, 9).micro_batches == 3);
  CHECK(predict_host_step(kCost, kVolume, kSlow, {}, 4, 9).compute == 9);
}

TEST_CASE("scaling: CPUs send float32 of one micro-batch, float64 of several, and get float32 back") {
  // 2 ranks of one host: half of 1000 elements of 4 + 4 bytes, 500 elements are one piece and one more round.
  const HostExchange how{.sum_seconds = 0.01};
  CHECK(near(predict_host_step(kCost, kVolume, kSlow, how, 2, 2).exposed, 500 * 8 / 100 + 2 * 2 + 1000 * 0.01));
  CHECK(near(predict_host_step(kCost, kVolume, kSlow, how, 2, 4).exposed, 500 * 12 / 100 + 2 * 2 + 1000 * 0.01));
  // 8 ranks: 3 of the others here, 4 elsewhere.
  CHECK(near(predict_host_step(kCost, kVolume, kSlow, how, 8, 8).exposed,
             3.0 / 8 * 8000 / 100 + 4.0 / 8 * 8000 / 10 + 2 * 3 + 10));
  HostExchange pieces = how;
  pieces.piece_elements = 100;  // 500 elements are five
  CHECK(near(predict_host_step(kCost, kVolume, kSlow, pieces, 2, 2).exposed, 40 + 6 * 2 + 10));
}

TEST_CASE("scaling: a rank adds up micro-batches of its own, if it has several") {
  const HostExchange how{.add_seconds = 0.001, .slowdown = 2};
  CHECK(near(predict_host_step(kCost, kVolume, kSlow, how, 1, 1).compute, 2 * 3));
  CHECK(near(predict_host_step(kCost, kVolume, kSlow, how, 1, 3).compute, 2 * 3 * (3 + 1)));
}

TEST_CASE("scaling: more threads than cores slow all computation down") {
  const HostExchange how{.sum_seconds = 0.01, .slowdown = 2};
  const PredictedStep step = predict_host_step(kCost, kVolume, kSlow, how, 4, 4);
  CHECK(near(step.compute, 6));
  CHECK(near(step.optimizer, 1));
  CHECK(near(step.exposed, 0.75 * 8000 / 100 + 2 * 2 + 20));
}

TEST_CASE("scaling: efficiency compares work in a second") {
  CHECK(efficiency(10, 1, 10, 4, 4) == 1);     // four times the work in the same time
  CHECK(efficiency(10, 8, 2.5, 8, 8) == 0.5);  // the same work, four times as fast on eight
}

TEST_CASE("scaling: what travels of the 44M profile") {
  const ModelConfig model = profile("44M");
  const GradientVolume wide = gradient_volume(model, {});
  CHECK(wide.elements == static_cast<double>(model.parameter_count()));
  CHECK(wide.late_elements == 8000 * 412);
  CHECK(wide.operand_bytes == 4 * wide.elements);
  // 16 layers in groups of 2; the head's 3.3 M of 39.0 M multiply-adds of a sequence's first token are not repeated.
  CHECK(wide.final_share < 1.0 / 8);
  CHECK(wide.final_share > 0.9 / 8);
  const GradientVolume narrow = gradient_volume(model, {.dtype = DType::f32, .compute = DType::bf16});
  CHECK(narrow.elements == wide.elements);
  CHECK(narrow.operand_bytes < 0.6 * wide.operand_bytes);
  CHECK(narrow.operand_bytes > 0.5 * wide.operand_bytes);
}
