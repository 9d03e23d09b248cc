// Steps as a CUDA graph: the same bits as without.
#include "trainer/step_graph.h"

#include <doctest/doctest.h>

#include <functional>

#include "core/memory.h"
#include "tests/testing.h"
#include "tests/trainer/ragged_model.h"
#include "tests/trainer/tiny_run.h"
#include "trainer/evaluator.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

/// The same with even widths.
ModelConfig small_model(int64_t att_n_experts = 4) {
  ModelConfig c = ragged_model(att_n_experts);
  c.d_model = 24;
  c.d_head = 6;
  c.ff_expert_size = 14;
  return c;
}

Batch batch_of(int64_t sequences, int64_t seq_len, uint64_t number) {
  Batch batch{.sequences = sequences, .seq_len = seq_len, .first_sample = 100 * number};
  Rng rng(5, number);
  for (int64_t i = 0; i < sequences * seq_len; ++i) {
    batch.tokens.push_back(static_cast<int32_t>(rng.uniform() * 37));
    batch.targets.push_back(static_cast<int32_t>(rng.uniform() * 37));
  }
  return batch;
}

struct Case {
  DType compute = DType::f32;
  int64_t att_n_experts = 4;
  StepOptions options = {};
  double loss_scale = 0;  ///< 0: losses are not scaled
  int64_t seq_len = 11;
  int64_t last_sequences = 3;  ///< of the last two batches; all others have 3
  bool padded = false;         ///< with another number of ignored targets in every batch
  bool document_mask = false;  ///< with other documents in every batch
  std::function<void(MoeutLm&)> between = [](MoeutLm&) {};
};

struct Trained {
  std::vector<Tensor> tensors;  ///< values, narrow copies and moments
  std::vector<double> scalars;  ///< of every step
  StepResult last;
};

/// Six steps, with learning rates of their own.
Trained train_steps(const Case& c, bool with_graph) {
  const Device cuda = Device::cuda();
  MoeutLm model(small_model(c.att_n_experts), 1, {.dtype = wide_of(c.compute), .device = cuda, .compute = c.compute});
  AdamW optimizer({.eps = 1e-2}, model.parameters());
  if (c.loss_scale > 0) {
    optimizer.scale_losses();
    optimizer.restore(0, {.scale = c.loss_scale});
  }
  std::optional<StepGraph> graph;
  if (with_graph) graph.emplace(model, optimizer);
  Trained trained;
  for (uint64_t step = 0; step < 6; ++step) {
    Batch batch = batch_of(step < 4 ? 3 : c.last_sequences, c.seq_len, step);
    batch.padded = c.padded;
    if (c.padded) std::fill_n(batch.targets.begin(), 2 + 3 * step, Batch::kIgnoredTarget);
    if (c.document_mask) {
      for (int64_t i = 0; i < batch.sequences * batch.seq_len; ++i) {
        const auto begin = static_cast<int32_t>(1 + step);
        batch.document_starts.push_back(i % batch.seq_len < begin ? 0 : begin);
      }
    }
    StepOptions options = c.options;
    options.seed = 3;
    options.lr = 1e-2 / static_cast<double>(1 + step);
    graph ? graph->queue_step(batch, options) : queue_step(model, optimizer, batch, options);
    const StepResult r = trained.last = optimizer.read();
    for (const double x : {r.loss, r.reg_loss, r.grad_norm, r.scaler.scale}) trained.scalars.push_back(x);
    const MemoryPool::Scope borrowed(graph ? graph->memory() : nullptr);
    c.between(model);
  }
  for (const AdamW::Moments& m : optimizer.moments()) {
    CHECK_FALSE(m.parameter->has_gradient);
    for (const Tensor& t : {m.parameter->value, m.exp_avg, m.exp_avg_sq})
      trained.tensors.push_back(t.to(Device::cpu()));
    if (m.parameter->narrow.defined()) trained.tensors.push_back(m.parameter->narrow.to(Device::cpu()));
  }
  return trained;
}

/// Trains both ways; the result.
StepResult expect_same(const Case& c) {
  const Trained plain = train_steps(c, false), graph = train_steps(c, true);
  // A step whose gradient overflows has a norm that is not a number.
  const auto bytes = [](const std::vector<double>& v) {
    return std::string(reinterpret_cast<const char*>(v.data()), v.size() * sizeof(double));
  };
  CHECK(bytes(plain.scalars) == bytes(graph.scalars));
  expect_same_bits(graph.tensors, plain.tensors);
  CHECK(graph.last.steps == plain.last.steps);
  CHECK(graph.last.skipped == plain.last.skipped);
  CHECK(graph.last.updates == plain.last.updates);
  return graph.last;
}

void expect_same_files(const std::filesystem::path& a, const std::filesystem::path& b, int step) {
  for (const char* file : {"model.safetensors", "optimizer.safetensors", "state.json"}) {
    CAPTURE(file);
    const std::string bytes = read_text(checkpoint_folder(a, step) / file);
    CHECK_FALSE(bytes.empty());
    CHECK(bytes == read_text(checkpoint_folder(b, step) / file));
  }
}

}  // namespace

TEST_CASE("train.cuda_graph: auto is on for CUDA alone, and on needs it") {
  CHECK(tiny_config("x").config.train.cuda_graph == CudaGraph::automatic);
  CHECK(tiny_config("x", {"train.cuda_graph=off"}).config.train.cuda_graph == CudaGraph::off);
  CHECK_FALSE(uses_graph(CudaGraph::automatic, Device::cpu()));
  CHECK(uses_graph(CudaGraph::automatic, Device::cuda()));
  CHECK(uses_graph(CudaGraph::on, Device::cuda()));
  CHECK_FALSE(uses_graph(CudaGraph::off, Device::cuda()));
  const Silence silence;
  CHECK_THROWS_WITH_AS(Run(tiny_config("x", {"device=cpu", "train.cuda_graph=on"}), "no"),
                       doctest::Contains("train.cuda_graph: on needs a CUDA device, but this run computes on cpu; set"),
                       ConfigError);
}

TEST_CASE("step graph: a model on the CPU is refused") {
  MoeutLm model(small_model(), 1);
  AdamW optimizer({}, model.parameters());
  CHECK_THROWS_WITH_AS(StepGraph(model, optimizer), "step graph: the model is on cpu, not on a CUDA device",
                       BackendError);
}

TEST_CASE("step graph: the same bits in every format, in micro-batches, and when layers run again") {
  if (cuda_device_count() == 0) return;
  for (const DType compute : {DType::f64, DType::f32, DType::tf32, DType::bf16, DType::f16}) {
    for (const int64_t att_n_experts : {1, 4}) {
      INFO(name_of(compute), ", attention experts ", att_n_experts);
      CHECK(expect_same({.compute = compute, .att_n_experts = att_n_experts}).updated);
    }
    INFO(name_of(compute));
    expect_same({.compute = compute, .options = {.micro_batch_size = 2}});
    expect_same({.compute = compute, .options = {.micro_batch_size = 1, .recompute = true}});
  }
}

TEST_CASE("step graph: fp16 skips the same overflows") {
  if (cuda_device_count() == 0) return;
  const StepResult last = expect_same({.compute = DType::f16, .loss_scale = GradScaler::kLargest});
  CHECK(last.skipped > 0);
  CHECK(last.skipped < 6);
}

TEST_CASE("step graph: the same bits where cuDNN computes attention") {
  if (cuda_device_count() == 0) return;
  for (const DType compute : {DType::bf16, DType::f16}) expect_same({.compute = compute, .seq_len = 128});
}

TEST_CASE("step graph: batches of another form begin anew") {
  if (cuda_device_count() == 0) return;
  expect_same({.compute = DType::bf16, .last_sequences = 2});
}

TEST_CASE("step graph: padded batches have their own numbers of targets, masked ones their own documents") {
  if (cuda_device_count() == 0) return;
  for (const DType compute : {DType::f64, DType::f32, DType::bf16, DType::f16}) {
    CHECK(expect_same({.compute = compute, .options = {.micro_batch_size = 2}, .padded = true}).updated);
    CHECK(expect_same({.compute = compute, .options = {.micro_batch_size = 2}, .document_mask = true}).updated);
  }
}

TEST_CASE("step graph: evaluation between steps borrows its memory") {
  if (cuda_device_count() == 0) return;
  const auto forward = [](MoeutLm& model) {
    Tape tape(Tape::Recording::off);
    ForwardContext context(tape);
    const Batch batch = batch_of(2, 9, 77);
    const size_t before = memory_stats(Device::cuda()).in_use;
    const Tensor tokens = ids_on(Device::cuda(), batch.tokens, 2, 9);
    if (MemoryPool::current(Device::cuda()) != nullptr) CHECK(memory_stats(Device::cuda()).in_use == before);
    const Tensor logits = model.forward(context, tokens).outputs.value();
    CHECK(relative_l2(logits, logits) == 0);  // it waits for them, and they are finite
  };
  expect_same({.compute = DType::bf16, .between = forward});
}

TEST_CASE("step graph: who keeps some of its memory is told so, and what needs the host is refused") {
  if (cuda_device_count() == 0) return;
  MoeutLm model(small_model(), 1, {.device = Device::cuda()});
  AdamW optimizer({}, model.parameters());
  StepGraph graph(model, optimizer);
  const StepOptions options{.lr = 1e-3};
  for (uint64_t step = 0; step < 3; ++step) graph.queue_step(batch_of(3, 11, step), options);
  Tensor kept;
  {
    const MemoryPool::Scope borrowed(graph.memory());
    kept = Tensor::zeros({5}, DType::f32, Device::cuda());
  }
  CHECK_THROWS_WITH_AS(graph.queue_step(batch_of(3, 11, 3), options),
                       doctest::Contains("step graph: 256 bytes of its memory are held by something else"), Error);
  kept = Tensor();
  graph.queue_step(batch_of(3, 11, 3), options);
  CHECK(optimizer.read().steps == 4);
  RoutingTrace trace;
  CHECK_THROWS_WITH_AS(graph.queue_step(batch_of(3, 11, 4), {.record = &trace}),
                       doctest::Contains("timed or traced cannot be recorded"), Error);
}

TEST_CASE("step graph: runs of 100 steps, with and without it and resumed, end with the same bytes") {
  if (cuda_device_count() == 0) return;
  const ScratchFolder folder;
  for (const char* precision : {"bf16", "fp16"}) {
    const auto run = [&](const char* name, const char* graph, const std::string& from = "auto") {
      const std::filesystem::path dir = folder.path() / precision / name;
      train(tiny_config(dir, {"device=cuda", std::string("train.precision=") + precision, "train.steps=100",
                              "checkpoint.every=50", std::string("train.cuda_graph=") + graph}),
            from);
      return dir;
    };
    const auto whole = run("whole", "on"), again = run("again", "on"), plain = run("plain", "off");
    const auto resumed = run("resumed", "on", checkpoint_folder(whole, 50).string());
    for (const auto& other : {again, plain, resumed}) expect_same_files(whole, other, 100);
    CHECK(rows(whole / "metrics.jsonl") == rows(plain / "metrics.jsonl"));
    CHECK(rows(whole / "samples.jsonl") == rows(plain / "samples.jsonl"));
  }
}
