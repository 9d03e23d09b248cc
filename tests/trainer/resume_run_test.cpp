// A run that is stopped anywhere and resumed is the undisturbed run, byte for byte.
#include <doctest/doctest.h>
#include <omp.h>

#include "tests/trainer/tiny_run.h"
#include "trainer/resume_check.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

namespace stdfs = std::filesystem;

/// The files of a run that is the same must be the same.
void check_same_state(const stdfs::path& a, const stdfs::path& b, int step) {
  for (const char* file : {"model.safetensors", "optimizer.safetensors", "state.json"}) {
    CAPTURE(file);
    const std::string bytes = read_text(checkpoint_folder(a, step) / file);
    CHECK(!bytes.empty());
    CHECK(bytes == read_text(checkpoint_folder(b, step) / file));
  }
}

/// The last `count` rows, or all.
std::vector<std::string> tail(const std::vector<std::string>& rows, size_t count) {
  return {rows.end() - static_cast<std::ptrdiff_t>(std::min(count, rows.size())), rows.end()};
}

void check_rows_continue(const stdfs::path& resumed, const stdfs::path& whole) {
  for (const char* name : {"metrics.jsonl", "samples.jsonl"}) {
    const auto part = rows(resumed / name), all = rows(whole / name);
    CHECK(part == tail(all, part.size()));
  }
}

}  // namespace

TEST_CASE("a run resumed at any step ends with the bytes of the undisturbed one") {
  const ScratchFolder folder;
  const stdfs::path whole = folder.path() / "whole";
  CHECK(train(tiny_config(whole)) == TrainingLoop::End::finished);
  // Validation before the first step, each step, validation at 5, 10 and the end.
  CHECK(rows(whole / "metrics.jsonl").size() == 1 + 12 + 3);
  CHECK(rows(whole / "samples.jsonl").size() == 2);
  for (const int step : {1, 5, 6, 11}) {
    CAPTURE(step);
    const stdfs::path resumed = folder.path() / ("from-" + std::to_string(step));
    CHECK(train(tiny_config(resumed), checkpoint_folder(whole, step).string()) == TrainingLoop::End::finished);
    check_same_state(resumed, whole, 12);
    check_rows_continue(resumed, whole);
  }
}

TEST_CASE("a run that runs layers again begins with the same losses and resumes to its own bytes") {
  const ScratchFolder folder;
  const stdfs::path kept = folder.path() / "kept", whole = folder.path() / "whole", resumed = folder.path() / "resumed";
  const std::vector<std::string> recompute = {"train.recompute=true"};
  train(tiny_config(kept, {"train.steps=1"}));
  train(tiny_config(whole, recompute));
  const auto first = [](const stdfs::path& run, const char* field) {
    return Json::parse(rows(run / "metrics.jsonl").at(1)).at(field).as_double();  // row 0 is a validation
  };
  CHECK(first(whole, "loss") == first(kept, "loss"));
  CHECK(first(whole, "reg_loss") == first(kept, "reg_loss"));
  train(tiny_config(resumed, recompute), checkpoint_folder(whole, 5).string());
  check_same_state(resumed, whole, 12);
  check_rows_continue(resumed, whole);
}

TEST_CASE("averaged weights and the windows of spikes resume to the same bytes") {
  const ScratchFolder folder;
  const stdfs::path whole = folder.path() / "whole", resumed = folder.path() / "resumed";
  const std::vector<std::string> options = {"optimizer.ema_decay=0.8", "optimizer.spike_z=0.5",
                                            "optimizer.spike_window=4", "optimizer.spike_action=skip"};
  train(tiny_config(whole, options));
  train(tiny_config(resumed, options), checkpoint_folder(whole, 6).string());
  check_same_state(resumed, whole, 12);
  check_rows_continue(resumed, whole);
  const std::string averages = read_text(checkpoint_folder(whole, 12) / "ema.safetensors");
  CHECK(averages == read_text(checkpoint_folder(resumed, 12) / "ema.safetensors"));
  CHECK(averages != read_text(checkpoint_folder(whole, 12) / "model.safetensors"));
  const Json state = Json::parse(read_text(checkpoint_folder(whole, 12) / "state.json"));
  CHECK(state.at("spike_steps").as_int64() == 12);
  CHECK(state.at("updates").as_int64() < 12);  // so low a bound is passed
  CHECK(Json::parse(rows(whole / "metrics.jsonl").back()).find("val_loss_ema") != nullptr);
  // They may begin in mid-run: with the values that there are, and with an empty window.
  const stdfs::path later = folder.path() / "later";
  train(tiny_config(later, {"train.steps=6"}));
  train(tiny_config(later,
                    {"train.steps=8", "optimizer.ema_decay=0.5", "optimizer.spike_z=3", "optimizer.spike_window=20"}));
  CHECK(!read_text(checkpoint_folder(later, 8) / "ema.safetensors").empty());
}

TEST_CASE("recomputation may begin in mid-run, but not in silence") {
  const ScratchFolder folder;
  const stdfs::path dir = folder.path() / "run";
  train(tiny_config(dir, {"train.steps=1"}));
  const Silence silence;
  const Run run(tiny_config(dir, {"train.steps=1", "train.recompute=true"}), "must");
  const auto changes = check_resume(LoadedCheckpoint::open(checkpoint_folder(dir, 1)), run.config,
                                    run.inputs.train->tokenizer_sha256(), run.inputs.train->fingerprint());
  CHECK(changes == std::vector<std::string>{"train.recompute: false there, true now"});
}

TEST_CASE("another order of the data is refused unless it is forced; another model always is") {
  const ScratchFolder folder;
  const stdfs::path dir = folder.path() / "run";
  train(tiny_config(dir, {"train.steps=2"}));
  const Silence silence;
  const std::vector<std::string> other_order = {"train.steps=2", "seed=7"};
  CHECK_THROWS_WITH_AS(Run(tiny_config(dir, other_order), "must"), doctest::Contains("with --force, or start anew"),
                       IoError);
  Run forced(tiny_config(dir, other_order), "must", true);
  CHECK(forced.state.step == 2);
  CHECK(forced.state.next_sample == 2 * static_cast<uint64_t>(forced.config.train.batch_size));
  const LoadedCheckpoint checkpoint = LoadedCheckpoint::open(checkpoint_folder(dir, 2));
  const auto changes = check_resume(checkpoint, forced.config, std::string(64, 'f'), "other", true);
  REQUIRE(changes.size() == 3);
  CHECK(changes[0].starts_with("forced: seed: "));
  CHECK(changes[1].starts_with("forced: the tokenizer"));
  CHECK(changes[2].starts_with("forced: the contents of data.train"));
  const std::vector<std::string> other_model = {"train.steps=2", "seed=7", "model.d_model=24"};
  CHECK_THROWS_WITH_AS(Run(tiny_config(dir, other_model), "must", true), doctest::Contains("model.d_model"), IoError);
  CHECK_THROWS_WITH_AS(Run(tiny_config(dir, other_model), "must"), doctest::Contains("another run.dir, or start"),
                       IoError);
}

TEST_CASE("the batch may grow in mid-run: the cursor counts sequences, so none is lost or seen twice") {
  const ScratchFolder folder;
  const stdfs::path dir = folder.path() / "run";
  train(tiny_config(dir, {"train.steps=4"}));  // 3 sequences a step
  {
    const Silence silence;
    const Run run(tiny_config(dir, {"train.steps=4", "train.batch_size=5"}), "must");
    const auto changes = check_resume(LoadedCheckpoint::open(checkpoint_folder(dir, 4)), run.config,
                                      run.inputs.train->tokenizer_sha256(), run.training_data->fingerprint());
    CHECK(changes == std::vector<std::string>{"train.batch_size: 3 there, 5 now"});
  }
  train(tiny_config(dir, {"train.steps=6", "train.batch_size=5"}));
  const Json state = Json::parse(read_text(checkpoint_folder(dir, 6) / "state.json"));
  CHECK(state.at("next_sample").as_int64() == 4 * 3 + 2 * 5);
  CHECK(state.at("tokens").as_int64() == (4 * 3 + 2 * 5) * 8);
}

TEST_CASE("validation may use sequences of another length") {
  const ScratchFolder folder;
  const auto first_loss = [&](const char* name, std::vector<std::string> options) {
    options.push_back("train.steps=1");
    train(tiny_config(folder.path() / name, options));
    return Json::parse(rows(folder.path() / name / "metrics.jsonl").at(0)).at("val_loss").as_double();
  };
  const double as_trained = first_loss("a", {"eval.sequences=0"});
  CHECK(first_loss("b", {"eval.sequences=0", "eval.seq_len=8"}) == as_trained);
  CHECK(first_loss("c", {"eval.sequences=0", "eval.seq_len=32"}) != as_trained);
}

TEST_CASE("a resumed run cuts the rows that its checkpoint does not know") {
  const ScratchFolder folder;
  const stdfs::path whole = folder.path() / "whole", other = folder.path() / "other";
  train(tiny_config(whole));
  train(tiny_config(other, {"checkpoint.every=4", "checkpoint.keep_last=5"}));
  // As a kill between step 8's checkpoint and the next leaves it.
  stdfs::remove_all(checkpoint_folder(other, 12));
  train(tiny_config(other, {"checkpoint.every=4", "checkpoint.keep_last=5"}), "must");
  check_same_state(other, whole, 12);
  CHECK(rows(other / "metrics.jsonl") == rows(whole / "metrics.jsonl"));
  CHECK(rows(other / "samples.jsonl") == rows(whole / "samples.jsonl"));
}

TEST_CASE("the bytes depend neither on the number of threads nor on prefetching") {
  const ScratchFolder folder;
  const int threads = omp_get_max_threads();
  train(tiny_config(folder.path() / "1", {"train.threads=1", "data.prefetch=0"}));
  train(tiny_config(folder.path() / "2", {"train.threads=2"}));
  train(tiny_config(folder.path() / "3", {"train.threads=3"}));
  omp_set_num_threads(threads);
  check_same_state(folder.path() / "1", folder.path() / "2", 12);
  check_same_state(folder.path() / "1", folder.path() / "3", 12);
  CHECK(rows(folder.path() / "1/metrics.jsonl") == rows(folder.path() / "2/metrics.jsonl"));
}

TEST_CASE("resuming across an epoch's end visits each sequence once an epoch") {
  const ScratchFolder folder;
  const std::vector<std::string> overrides = {"train.batch_size=100", "train.steps=5", "train.micro_batch_size=0"};
  const stdfs::path whole = folder.path() / "whole", resumed = folder.path() / "resumed";
  {
    const Silence silence;
    const Run run(tiny_config(whole, overrides), "no");
    const uint64_t epoch = run.training_data->samples_per_epoch();
    REQUIRE(epoch > 100);       // the epoch ends between steps …
    REQUIRE(epoch < 5 * 100);   // … and within the run
    REQUIRE(epoch % 100 != 0);  // in the middle of a batch
  }
  train(tiny_config(whole, overrides));
  for (int step = 1; step < 5; ++step) {
    stdfs::remove_all(resumed);
    train(tiny_config(resumed, overrides), checkpoint_folder(whole, step).string());
    check_same_state(resumed, whole, 5);
  }
}

TEST_CASE("a request to stop saves at once and what was due is done after resuming") {
  const ScratchFolder folder;
  const stdfs::path whole = folder.path() / "whole", stopped = folder.path() / "stopped";
  train(tiny_config(whole));
  {
    // Before the first validation: step 0 is saved, with its validation still to do.
    StopRequest request;
    std::raise(SIGTERM);
    CHECK(train(tiny_config(stopped), "auto", &request) == TrainingLoop::End::stopped);
    CHECK(request.reason() == "SIGTERM");
    CHECK(stdfs::exists(checkpoint_folder(stopped, 0) / "manifest.json"));
    CHECK(rows(stopped / "metrics.jsonl").empty());
  }
  CHECK(train(tiny_config(stopped), "must") == TrainingLoop::End::finished);
  check_same_state(stopped, whole, 12);
  CHECK(rows(stopped / "metrics.jsonl") == rows(whole / "metrics.jsonl"));
}

TEST_CASE("starting anew keeps what was there") {
  const ScratchFolder folder;
  const stdfs::path dir = folder.path() / "run";
  train(tiny_config(dir));
  const auto before = rows(dir / "metrics.jsonl");
  train(tiny_config(dir, {"seed=7", "train.steps=2"}), "no");
  CHECK(rows(dir / "metrics.aside-1.jsonl") == before);
  CHECK(rows(dir / "metrics.jsonl").size() == 4);
  CHECK(stdfs::exists(dir / "checkpoints" / "step-00000012.aside-1" / "manifest.json"));
  const Silence silence;
  CHECK(Run(tiny_config(dir, {"seed=7", "train.steps=2"}), "auto").finished());
}

TEST_CASE("a checkpoint of another model, seed or data is refused with what differs") {
  const ScratchFolder folder;
  const stdfs::path dir = folder.path() / "run";
  train(tiny_config(dir, {"train.steps=1"}));
  const Silence silence;
  const auto resume_with = [&](std::vector<std::string> overrides) { Run(tiny_config(dir, overrides), "auto"); };
  CHECK_THROWS_WITH_AS(resume_with({"model.d_model=32", "seed=1"}),
                       doctest::Contains("model.d_model: 16 there, 32 now (it is another model)"), IoError);
  CHECK_THROWS_WITH_AS(resume_with({"model.d_model=32", "seed=1"}),
                       doctest::Contains("seed: 0 there, 1 now (it decides the order of the data)"), IoError);
  CHECK_THROWS_WITH_AS(resume_with({"train.precision=fp64"}), doctest::Contains("train.precision"), IoError);
  const std::string validation = (TinyData::get().folder() / "shards/validation").string();
  CHECK_THROWS_WITH_AS(resume_with({"data.train=" + validation}), doctest::Contains("contents of data.train"), IoError);
  CHECK_NOTHROW(resume_with({"train.steps=20", "optimizer.lr=0.001", "model.dropout=0"}));
}

TEST_CASE("mixed corpora of padded documents resume to the bytes of the undisturbed run; another mixture is refused") {
  const ScratchFolder folder;
  const stdfs::path whole = folder.path() / "whole", resumed = folder.path() / "resumed";
  const std::string other = (TinyData::get().folder() / "shards/validation").string();
  const std::vector<std::string> options = {"data.mix=" + other + "=0.4", "data.packing=document"};
  train(tiny_config(whole, options));
  for (const int step : {3, 7}) {
    stdfs::remove_all(resumed);
    train(tiny_config(resumed, options), checkpoint_folder(whole, step).string());
    check_same_state(resumed, whole, 12);
    check_rows_continue(resumed, whole);
  }
  const Silence silence;
  const auto resume_with = [&](const std::string& mix, const std::string& more) {
    Run(tiny_config(whole, {"data.mix=" + mix, "data.packing=document", more}), "auto");
  };
  CHECK_NOTHROW(resume_with(" " + other + " = 0.40", "data.prefetch=0"));
  CHECK_THROWS_WITH_AS(resume_with(other + "=0.3", "seed=0"), doctest::Contains("or their shares"), IoError);
  CHECK_THROWS_WITH_AS(resume_with("", "seed=0"), doctest::Contains("or their shares"), IoError);
  for (const char* change : {"data.order=sequential", "data.packing=packed"}) {
    CHECK_THROWS_WITH_AS(resume_with(other + "=0.4", change), doctest::Contains("decides the order of the data"),
                         IoError);
  }
}
