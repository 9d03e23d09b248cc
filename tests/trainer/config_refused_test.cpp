// Wrong configurations, and what each is told.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "core/error.h"
#include "tests/data/text_files.h"
#include "tests/scratch_folder.h"
#include "trainer/command_line.h"
#include "trainer/config_load.h"
#include "trainer/config_print.h"

using namespace moeut;
using testing::ScratchFolder;
using testing::write_text;

namespace {

const std::string kValid = "data: {train: shards}\ntrain: {steps: 100}\nmodel: {profile: 44M}\n";

struct Wrong {
  const char* name;
  std::string yaml;
  std::vector<std::string> overrides;
  std::string message;
};

// clang-format off
const std::vector<Wrong> kWrong = {
    {"unknown key in a section", kValid + "optimizer:\n  momentum: 0.9\n", {}, "a.yaml:5:3: optimizer.momentum: unknown key; did you mean optimizer.name?"},
    {"unknown section", kValid + "optimiser:\n  lr: 0.1\n", {}, "a.yaml:5:3: optimiser.lr: unknown key; did you mean optimizer.lr?"},
    {"unknown key at the top", kValid + "learning_rate: 0.1\n", {}, "a.yaml:4:1: learning_rate: unknown key; --help lists all"},
    {"unknown key of the data", "data: {train: shards, shufle: true}\ntrain: {steps: 100}\nmodel: {profile: 44M}\n", {}, "a.yaml:1:23: data.shufle: unknown key; did you mean data.shuffle?"},
    {"unknown key of a model", "data: {train: shards}\ntrain: {steps: 100}\nmodel: {profile: 44M, n_experts: 8}\n", {}, "a.yaml:3:23: model.n_experts: unknown key; did you mean model.ff_n_experts?"},
    {"unknown key on the command line", kValid, {"train.batchsize=8"}, "command line: train.batchsize: unknown key; did you mean train.batch_size?"},
    {"a section where a value belongs", kValid, {"train=8"}, "command line: train: is a section; give one of its keys, such as train.steps"},
    {"an override without a value", kValid, {"train.steps"}, "command line: two configuration files, 'a.yaml' and \"train.steps\"; an override has the form key.path=value"},
    {"a value that is too small", kValid + "optimizer: {beta1: -0.1}\n", {}, "a.yaml:4:20: optimizer.beta1: expected a number with 0 <= x < 1, found \"-0.1\""},
    {"a value at an open bound", kValid + "optimizer: {beta2: 1}\n", {}, "a.yaml:4:20: optimizer.beta2: expected a number with 0 <= x < 1, found \"1\""},
    {"a value that is too large", kValid + "train.seq_len: 2000000\n", {}, "a.yaml:4:16: train.seq_len: expected a whole number with 1 <= x <= 1048576 (tokens), found \"2000000\""},
    {"zero where nothing would be left", kValid + "log: {every: 0}\n", {}, "a.yaml:4:14: log.every: expected a whole number with 1 <= x <= 1000000000000 (steps), found \"0\""},
    {"a negative learning rate", kValid + "optimizer: {lr: -1e-3}\n", {}, "a.yaml:4:17: optimizer.lr: expected a number with x > 0, found \"-1e-3\""},
    {"a fraction for a whole number", kValid + "train.batch_size: 1.5\n", {}, "a.yaml:4:19: train.batch_size: expected a whole number with 1 <= x <= 1048576 (sequences), found \"1.5\""},
    {"a number in words", kValid + "train.batch_size: ten\n", {}, "a.yaml:4:19: train.batch_size: expected a whole number with 1 <= x <= 1048576 (sequences), found \"ten\""},
    {"a number in quotes", kValid + "train.batch_size: \"64\"\n", {}, "a.yaml:4:19: train.batch_size: expected a whole number with 1 <= x <= 1048576 (sequences), found the text \"64\""},
    {"an exponent for a whole number", kValid + "checkpoint: {every: 1e3}\n", {}, "a.yaml:4:21: checkpoint.every: expected a whole number with 0 <= x <= 1000000000000 (steps), found \"1e3\""},
    {"a number beyond 64 bits", kValid + "seed: 18446744073709551616\n", {}, "a.yaml:4:7: seed: expected a whole number from 0 to 18446744073709551615, found \"18446744073709551616\""},
    {"not a number", kValid + "optimizer: {lr: .nan}\n", {}, "a.yaml:4:17: optimizer.lr: expected a number with x > 0, found \".nan\""},
    {"infinity", kValid + "optimizer: {grad_clip: .inf}\n", {}, "a.yaml:4:24: optimizer.grad_clip: expected a number with x >= 0, found \".inf\""},
    {"a unit behind a number", kValid + "train.max_time: 60s\n", {}, "a.yaml:4:17: train.max_time: expected a number with x >= 0 (seconds), found \"60s\""},
    {"a truth that is none", kValid + "train.recompute: maybe\n", {}, "a.yaml:4:18: train.recompute: expected true or false, found \"maybe\""},
    {"an unknown choice", kValid + "train.precision: fp8\n", {}, "a.yaml:4:18: train.precision: expected one of fp64, fp32, tf32, bf16, fp16, found \"fp8\""},
    {"a choice in capitals", kValid + "schedule: {name: Cosine}\n", {}, "a.yaml:4:18: schedule.name: expected one of cosine, linear, constant, wsd, inverse_sqrt, found \"Cosine\""},
    {"an unknown profile", "data: {train: shards}\ntrain: {steps: 100}\nmodel: {profile: 2B}\n", {}, "a.yaml:3:18: model.profile: expected one of none, 44M, 126M, 244M, 318M, 727M, 1B, found \"2B\""},
    {"an unknown device", kValid + "device: gpu\n", {}, "a.yaml:4:9: device: expected one of auto, cpu, cuda, found \"gpu\""},
    {"a list for a number", kValid + "train.seq_len: [1024]\n", {}, "a.yaml:4:16: train.seq_len: expected a whole number with 1 <= x <= 1048576 (tokens), found a list"},
    {"a section for a number", kValid + "train.seq_len: {value: 1024}\n", {}, "a.yaml:4:16: train.seq_len: expected a whole number with 1 <= x <= 1048576 (tokens), found a section"},
    {"nothing for a number", kValid + "train.seq_len:\n", {}, "a.yaml:4:1: train.seq_len: expected a whole number with 1 <= x <= 1048576 (tokens), found nothing"},
    {"a control character in a path", kValid + "run: {dir: \"a\\tb\"}\n", {}, "a.yaml:4:12: run.dir: a path may not hold control characters, found \"a\\tb\""},
    {"an empty path", "data: {train: \"\"}\ntrain: {steps: 100}\nmodel: {profile: 44M}\n", {}, "a.yaml:1:15: data.train: may not be empty: folder of training shards, as moeut-data tokenize writes it"},
    {"required keys are missing", "model: {profile: 44M}\n", {}, "a.yaml: data.train: required, but not given: folder of training shards, as moeut-data tokenize writes it\na.yaml: train.steps: required, but not given: optimizer steps of the whole run"},
    {"no model", "data: {train: shards}\ntrain: {steps: 100}\n", {}, "a.yaml: model.d_model: required without a model.profile, but not given: width of the residual stream\na.yaml: model.n_layers: required without a model.profile, but not given: layers applied in all; a multiple of group_size\na.yaml: model.n_heads: required without a model.profile, but not given: attention heads of a layer\na.yaml: model.ff_n_experts: required without a model.profile, but not given: experts of a feed-forward layer\na.yaml: model.att_n_experts: required without a model.profile, but not given: experts of a head's value and output projections; 1: dense attention with a gate a head"},
    {"a key given twice", kValid + "seed: 1\nseed: 2\n", {}, "a.yaml:5:1: seed: given twice, first at line 4"},
    {"a key given twice in two spellings", kValid + "train.steps: 5\n", {}, "a.yaml:4:1: train.steps: given twice, first at line 2"},
    {"layers that do not divide", kValid, {"model.n_layers=7", "model.group_size=2"}, "command line: model.n_layers: 7 is not a multiple of model.group_size = 2"},
    {"more experts chosen than there are", kValid, {"model.ff_n_experts=4", "model.ff_k=8"}, "command line: model.ff_k: 8 experts cannot be chosen of model.ff_n_experts = 4"},
    {"more attention experts chosen than there are", kValid, {"model.att_n_experts=2", "model.att_k=3"}, "command line: model.att_k: 3 experts cannot be chosen of model.att_n_experts = 2"},
    {"heads without a dimension", kValid, {"model.d_head=0", "model.d_model=8", "model.n_heads=16"}, "command line: model.n_heads: 16 heads leave none of model.d_model = 8 to a head; set model.d_head"},
    {"samples without a tokenizer", kValid, {"sample.every=10"}, "command line: sample.every: sample texts need data.tokenizer; set it, or sample.every to 0"},
    {"a mixture without a share", kValid, {"data.mix=other"}, "command line: data.mix: expected FOLDER=SHARE with a share above 0 and below 1, and commas between several; found 'other'"},
    {"order and shuffle that contradict each other", kValid, {"data.order=lanes", "data.shuffle=true"}, "command line: data.shuffle: true contradicts data.order = lanes; data.order alone is enough"},
    {"a decay without its length", kValid, {"schedule.name=wsd"}, "a.yaml: schedule.decay_steps: schedule.name = wsd needs it: the steps at the end over which the learning rate falls, often a tenth of train.steps"},
    {"a decay that is longer than the run", kValid, {"schedule.name=wsd", "schedule.decay_steps=90", "schedule.warmup_steps=20"}, "command line: schedule.decay_steps: 90 and schedule.warmup_steps = 20 are more than train.steps = 100"},
    {"an alias", "data: &x {train: shards}\ntrain: *x\n", {}, "a.yaml:2:8: YAML aliases (*name, <<) are not accepted; write the values out"},
    {"a merge key", kValid + "run: {<<: {dir: a}}\n", {}, "a.yaml:4:12: \"run.<<.dir\": unknown key; did you mean run.dir?"},
    {"two documents", kValid + "---\nseed: 1\n", {}, "a.yaml:4:1: a second YAML document begins; keep one in a file"},
    {"a list at the top", "- train\n- steps\n", {}, "a.yaml:1:1: expected lines of the form `key: value`"},
    {"a text at the top", "just a text\n", {}, "a.yaml:1:1: expected lines of the form `key: value`"},
    {"an empty file", "", {}, "a.yaml: it is empty, it sets no key; configs/quickstart.yaml is one to begin with, --help lists all keys"},
    {"nothing but comments", "# nothing\n", {}, "a.yaml: it is empty, it sets no key; configs/quickstart.yaml is one to begin with, --help lists all keys"},
    {"a tab as indentation", "train:\n\tsteps: 5\n", {}, "a.yaml:2:7: not valid YAML: illegal map value; the line begins with a tab: indent with spaces"},
    {"a bracket that is not closed", "train: {steps: 5\n", {}, "a.yaml:2:1: not valid YAML: end of map flow not found"},
    {"a quote that is not closed", "device: \"cpu\n", {}, "a.yaml:1:9: device: expected one of auto, cpu, cuda, found the text \"cpu \"\na.yaml: data.train: required, but not given: folder of training shards, as moeut-data tokenize writes it\na.yaml: train.steps: required, but not given: optimizer steps of the whole run\na.yaml: model.d_model: required without a model.profile, but not given: width of the residual stream\na.yaml: model.n_layers: required without a model.profile, but not given: layers applied in all; a multiple of group_size\na.yaml: model.n_heads: required without a model.profile, but not given: attention heads of a layer\na.yaml: model.ff_n_experts: required without a model.profile, but not given: experts of a feed-forward layer\na.yaml: model.att_n_experts: required without a model.profile, but not given: experts of a head's value and output projections; 1: dense attention with a gate a head"},
    {"nested without end", "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", {}, "a.yaml:1:9: nested deeper than 16 levels"},
    {"a list as a key", kValid + "? [a, b]\n: 1\n", {}, "a.yaml:4:3: a key must be a plain name"},
    {"another file where none may be read", "extends: base.yaml\ndata: {train: shards}\ntrain: {steps: 100}\nmodel: {profile: 44M}\n", {}, "a.yaml:1:10: extends: only a configuration that is a file can extend another"},
};
// clang-format on

/// What moeut-train would say, without its name.
std::string message_of(const Wrong& wrong) {
  try {
    std::vector<const char*> arguments = {"moeut-train", "a.yaml"};
    for (const std::string& override_text : wrong.overrides) arguments.push_back(override_text.c_str());
    const CommandLine line = parse_command_line(static_cast<int>(arguments.size()), arguments.data());
    parse_config(wrong.yaml, "a.yaml", line.overrides);
    return "it was accepted";
  } catch (const ConfigError& error) {
    return error.what();
  }
}

std::string message_of(const std::filesystem::path& file, const std::vector<std::string>& overrides = {}) {
  try {
    load_config(file, overrides);
    return "it was accepted";
  } catch (const ConfigError& error) {
    return error.what();
  }
}

}  // namespace

TEST_CASE("forty wrong configurations and more, and the message that each gets") {
  CHECK(kWrong.size() >= 40);
  for (const Wrong& wrong : kWrong) {
    CAPTURE(wrong.name);
    CHECK(message_of(wrong) == wrong.message);
  }
}

TEST_CASE("a file takes what another sets, and says where a value came from") {
  const ScratchFolder folder;
  const auto base = write_text(folder.path() / "base.yaml", kValid + "optimizer: {lr: 1, beta1: 0.5}\nseed: 3\n");
  write_text(folder.path() / "runs/middle.yaml", "extends: ../base.yaml\noptimizer.lr: 2\nlog: {every: 7}\n");
  const auto top = write_text(folder.path() / "runs/top.yaml", "log.every: 8\nextends: middle.yaml\n");
  const LoadedConfig loaded = load_config(top, std::vector<std::string>{"seed=4"});
  CHECK(loaded.config.optimizer.lr == 2);
  CHECK(loaded.config.optimizer.beta1 == 0.5);
  CHECK(loaded.config.log.every == 8);
  CHECK(loaded.config.seed == 4);
  CHECK(loaded.config.run.dir == "runs/top");
  CHECK(loaded.origin_text("log.every") == top.string() + ":1");
  CHECK(loaded.origin_text("optimizer.lr") == (folder.path() / "runs/middle.yaml").string() + ":2");
  CHECK(loaded.origin_text("optimizer.beta1") == base.string() + ":4");
  CHECK(config_yaml(loaded.config).find("extends") == std::string::npos);
}

TEST_CASE("mistakes of both files are reported, each with its file; required keys may be in either") {
  const ScratchFolder folder;
  const auto path = [&](const char* name) { return (folder.path() / name).string(); };
  write_text(path("base.yaml"), "train: {steps: 0}\ndata.train: shards\n");
  write_text(path("top.yaml"), "extends: base.yaml\nmodel: {profile: 44M, ff_k: x}\n");
  CHECK(message_of(path("top.yaml")) ==
        path("base.yaml") +
            ":1:16: train.steps: expected a whole number with 1 <= x <= 1000000000000 (steps), found \"0\"\n" +
            path("top.yaml") +
            ":2:29: model.ff_k: expected a whole number with 1 <= x <= 1048576 (experts), found \"x\"");
  write_text(path("base.yaml"), "train: {steps: 5}\ndata.train: shards\n");
  CHECK(message_of(path("top.yaml"), {"model.ff_k=4"}).starts_with(path("top.yaml") + ":2:29"));
  write_text(path("top.yaml"), "extends: base.yaml\nmodel: {profile: 44M}\n");
  CHECK(message_of(path("top.yaml")) == "it was accepted");
}

TEST_CASE("files that cannot be extended") {
  const ScratchFolder folder;
  const auto path = [&](const std::string& name) { return (folder.path() / name).string(); };
  const auto refused = [&](const std::string& yaml) {
    write_text(path("a.yaml"), yaml);
    return message_of(path("a.yaml"));
  };
  CHECK(refused("extends: none.yaml\n" + kValid).starts_with(path("a.yaml") + ":1:10: extends: "));
  CHECK(refused("extends: none.yaml\n").find("none.yaml") != std::string::npos);
  CHECK(refused("extends: none.yaml\n").find("required") == std::string::npos);
  CHECK(refused("extends: [b.yaml]\n" + kValid) ==
        path("a.yaml") + ":1:1: extends: expected the path of a configuration file");
  CHECK(refused("extends:\n" + kValid) == path("a.yaml") + ":1:1: extends: expected the path of a configuration file");
  CHECK(refused("extends: a.yaml\n") == path("a.yaml") + ":1:10: extends: the files extend each other in a circle: " +
                                            path("a.yaml") + " -> " + path("a.yaml"));
  CHECK(refused("extends: b.yaml\nextends: b.yaml\n").find("extends: given twice, first at line 1") !=
        std::string::npos);
  CHECK(refused("extend: b.yaml\n" + kValid).find("did you mean extends?") != std::string::npos);
  CHECK(refused("extends: .\n" + kValid).find(":1:10: extends: ") != std::string::npos);
  write_text(path("b.yaml"), "extends: ./sub/../a.yaml\n");
  CHECK(refused("extends: b.yaml\n").find("b.yaml:1:10: extends: the files extend each other in a circle") !=
        std::string::npos);
  for (int i = 0; i < 12; ++i)
    write_text(path("c" + std::to_string(i) + ".yaml"), "extends: c" + std::to_string(i + 1) + ".yaml\n");
  CHECK(message_of(path("c0.yaml")).find("c7.yaml:1:10: extends: more than 8 files extend each other") !=
        std::string::npos);
  std::string large(1 << 20, '#');
  write_text(path("b.yaml"), large + "\n");
  CHECK(refused("extends: b.yaml\n" + kValid).find("b.yaml") != std::string::npos);
}

TEST_CASE("every configuration of the repository is accepted as it is") {
  int files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(MOEUT_SOURCE_DIR "/configs")) {
    if (entry.path().extension() != ".yaml" || entry.path().filename() == "base.yaml") continue;
    CAPTURE(entry.path().string());
    CHECK(message_of(entry.path()) == "it was accepted");
    ++files;
  }
  CHECK(files >= 25);
}
