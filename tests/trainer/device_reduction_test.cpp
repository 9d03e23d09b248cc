// NCCL with one rank: the step of a process alone, bit for bit. (Several GPUs: scripts/multi-gpu-check.)
#include "trainer/device_reduction.h"

#include <doctest/doctest.h>

#include "tests/testing.h"
#include "tests/trainer/ragged_model.h"
#include "tests/trainer/trained_step.h"
#include "trainer/step_graph.h"
#include "trainer/training_state.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

struct Case {
  DType compute = DType::f32;
  bool graph = false, recompute = false;
  DeviceReduction::Options options = {};
};

struct Outcome {
  std::vector<double> scalars;
  std::vector<Tensor> tensors;
};

ModelConfig even_model() {
  ModelConfig config = ragged_model(4);
  config.d_model = 24;
  config.d_head = 6;
  config.ff_expert_size = 14;
  return config;
}

/// Four steps of two micro-batches. Without a communicator nothing is reduced.
Outcome train_steps(const Case& c, Communicator* communicator) {
  MoeutLm model(even_model(), 1, {.dtype = wide_of(c.compute), .device = Device::cuda(), .compute = c.compute});
  std::optional<DeviceReduction> reduction;
  if (communicator != nullptr) reduction.emplace(*communicator, model.parameters(), c.options);
  AdamW optimizer({.eps = 1e-2, .ema_decay = 0.9}, model.parameters(), c.options.sharded ? &*reduction : nullptr);
  std::optional<StepGraph> graph;
  if (c.graph) graph.emplace(model, optimizer);
  Outcome outcome;
  for (uint64_t step = 0; step < 4; ++step) {
    Batch batch = random_batch(3, 11, 37);
    batch.first_sample = 100 * step;
    const StepOptions options{.lr = 0.01,
                              .seed = 3,
                              .micro_batch_size = 2,
                              .recompute = c.recompute,
                              .reduction = reduction ? &*reduction : nullptr};
    graph ? graph->queue_step(batch, options) : queue_step(model, optimizer, batch, options);
    const StepResult r = optimizer.read();
    for (const double x : {r.loss, r.reg_loss, r.grad_norm}) outcome.scalars.push_back(x);
    CHECK(r.updated);
  }
  optimizer.share_values();
  CheckpointContent content;
  add_tensors(content, model, optimizer);
  for (const AdamW::Moments& m : optimizer.moments())
    for (const Tensor& t : {m.parameter->value, m.exp_avg, m.exp_avg_sq, m.ema})
      outcome.tensors.push_back(t.to(Device::cpu()));
  return outcome;
}

bool can_run() {
  if (has_nccl() && cuda_device_count() > 0) return true;
  MESSAGE("skipped: no GPU or no NCCL");
  return false;
}

}  // namespace

TEST_CASE("NCCL with one rank changes no bit, sharded or not, recorded or not, early or late") {
  if (!can_run()) return;
  const auto nccl = make_nccl_communicator(make_single_communicator(), Device::cuda());
  for (const DType compute : {DType::f32, DType::bf16}) {
    for (const bool recompute : {false, true}) {
      const Outcome alone = train_steps({.compute = compute, .recompute = recompute}, nullptr);
      for (const bool graph : {false, true}) {
        for (const bool sharded : {false, true}) {
          for (const bool overlap : {false, true}) {
            CAPTURE(name_of(compute));
            CAPTURE(recompute);
            CAPTURE(graph);
            CAPTURE(sharded);
            CAPTURE(overlap);
            const DeviceReduction::Options options{.sharded = sharded, .overlap = overlap, .bucket_bytes = 4000};
            const Outcome reduced = train_steps({compute, graph, recompute, options}, nccl.get());
            CHECK(reduced.scalars == alone.scalars);
            expect_same_bits(reduced.tensors, alone.tensors);
          }
        }
      }
    }
  }
}

TEST_CASE("a reduction in bfloat16 rounds each gradient once") {
  if (!can_run()) return;
  const auto nccl = make_nccl_communicator(make_single_communicator(), Device::cuda());
  const Outcome wide = train_steps({}, nullptr);
  const Outcome narrow = train_steps({.options = {.precision = ReducePrecision::bf16}}, nccl.get());
  CHECK(narrow.scalars[0] == wide.scalars[0]);
  CHECK(narrow.scalars[2] != wide.scalars[2]);
  CHECK(narrow.scalars[2] == doctest::Approx(wide.scalars[2]).epsilon(1.0 / 256));  // half a unit of 8 bits each
}
