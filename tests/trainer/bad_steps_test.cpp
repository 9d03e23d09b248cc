// Runs whose loss or gradient is not finite.
#include "trainer/bad_step.h"

#include <doctest/doctest.h>

#include <limits>

#include "tests/trainer/tiny_run.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

namespace stdfs = std::filesystem;

/// What a run says as it ends.
std::string failure_of(const LoadedConfig& config) {
  try {
    train(config);
  } catch (const Error& error) {
    return error.what();
  }
  return "it did not fail";
}

/// After one update with this learning rate nothing is finite any more.
std::vector<std::string> diverging(const std::vector<std::string>& others) {
  std::vector<std::string> all = {"optimizer.lr=1e20", "optimizer.grad_clip=0", "schedule.warmup_steps=0",
                                  "train.steps=40"};
  all.insert(all.end(), others.begin(), others.end());
  return all;
}

int64_t step_of(const stdfs::path& folder) {
  return Json::parse(read_text(folder / "state.json")).at("step").as_int64();
}

std::vector<int> checkpoints(const stdfs::path& run_dir) {
  std::vector<int> steps;
  for (int step = 0; step < 50; ++step)
    if (stdfs::exists(checkpoint_folder(run_dir, step))) steps.push_back(step);
  return steps;
}

}  // namespace

TEST_CASE("a run that diverges ends with the state before, and names what is not finite") {
  const ScratchFolder folder;
  for (const char* precision : {"fp32", "bf16", "fp16"}) {
    for (const int log_every : {1, 10}) {
      CAPTURE(precision);
      CAPTURE(log_every);
      const stdfs::path dir = folder.path() / (precision + std::to_string(log_every));
      const std::string failure =
          failure_of(tiny_config(dir, diverging({"checkpoint.every=0", "log.every=" + std::to_string(log_every),
                                                 "train.precision=" + std::string(precision)})));
      CAPTURE(failure);
      // In fp16 the loss scale is halved first, 16 times from 65536 to 1.
      const int good = std::string(precision) == "fp16" ? 17 : 1;
      CHECK(failure.find(fmt::format("optimizer.max_bad_steps = 3 steps in a row, from step {} on (sequences {} to {})",
                                     good + 1, 3 * good, 3 * good + 2)) != std::string::npos);
      CHECK(failure.find("the first tensor that is not finite is the gradient of parameter ") != std::string::npos);
      CHECK(failure.find("the state before it is saved") != std::string::npos);
      REQUIRE(checkpoints(dir) == std::vector<int>{good});
      const Json state = Json::parse(read_text(checkpoint_folder(dir, good) / "state.json"));
      CHECK(state.at("next_sample").as_int64() == 3 * good);
      CHECK(state.at("tokens").as_int64() == 3 * good * 8);
      CHECK(state.at("updates").as_int64() == 1);
      CHECK(state.find("bad_in_row") == nullptr);
      // The state is that of a run which ends there.
      const stdfs::path short_run = folder.path() / ("short" + dir.filename().string());
      train(tiny_config(
          short_run, diverging({"train.steps=" + std::to_string(good), "train.precision=" + std::string(precision)})));
      for (const char* file : {"model.safetensors", "optimizer.safetensors"})
        CHECK(read_text(checkpoint_folder(dir, good) / file) == read_text(checkpoint_folder(short_run, good) / file));
    }
  }
}

TEST_CASE("bad steps go on counting in the next process; a newer checkpoint of the same weights stays the newest") {
  const ScratchFolder folder;
  const stdfs::path dir = folder.path() / "run";
  train(tiny_config(dir, diverging({"train.steps=2"})));  // the second step is bad
  CHECK(Json::parse(read_text(checkpoint_folder(dir, 2) / "state.json")).at("bad_in_row").as_int64() == 1);
  const std::string failure = failure_of(tiny_config(dir, diverging({"train.steps=40"})));
  CHECK(failure.find("= 3 steps in a row") != std::string::npos);
  CHECK(checkpoints(dir) == std::vector<int>{1, 2, 3});  // steps 2 and 3 bad, the fourth is the third in a row
  CHECK(step_of(checkpoint_folder(dir, 3)) == 3);
}

TEST_CASE("what is not finite is found in parameters, and in gradients") {
  const Silence silence;
  const ScratchFolder folder;
  Run run(tiny_config(folder.path() / "run", {"device=cpu"}), "no");  // its weights are written to from here
  const Batch batch = run.training_data->get(0, 3);
  const StepOptions options{.seed = run.config.seed, .micro_batch_size = 2};
  CHECK_FALSE(find_not_finite(*run.model, *run.optimizer, batch, options));
  Parameter& bias = run.model->lm_head.bias;
  bias.value.data<float>()[5] = std::numeric_limits<float>::infinity();
  CHECK(find_not_finite(*run.model, *run.optimizer, batch, options) ==
        fmt::format("parameter {} (element 5 of {} is inf)", bias.name, bias.value.size()));
  bias.value.data<float>()[5] = 3e38f;  // finite, but not what comes of it: logits of 3e38 with a loss of as much
  run.model->lm_head.weight.value.data<float>()[0] = 3e38f;
  CHECK(find_not_finite(*run.model, *run.optimizer, batch, options).value().starts_with("the gradient of parameter "));
}
