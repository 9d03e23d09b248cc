// Reading configurations: values and where they came from, every mistake at once, and text that reads back.
#include "trainer/config_load.h"

#include <doctest/doctest.h>

#include <fstream>
#include <iterator>

#include "core/error.h"
#include "data/json.h"
#include "tests/scratch_folder.h"
#include "trainer/config_fields.h"
#include "trainer/config_print.h"
#include "trainer/config_schema.h"

using namespace moeut;

namespace {

const std::string kValid = R"(# the least that is accepted
data:
  train: shards
train:
  steps: 100
model:
  profile: 44M
)";

LoadedConfig parse(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
  return parse_config(yaml, "conf/a.yaml", overrides);
}

/// What parse complains about; "" if it does not.
std::string complaint(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
  try {
    parse(yaml, overrides);
    return "";
  } catch (const ConfigError& error) {
    return error.what();
  }
}

/// The complaint about kValid with one override.
std::string refused(const std::string& override_text) {
  return complaint(kValid, {override_text});
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a configuration gives values, defaults and their origins") {
  const LoadedConfig loaded =
      parse(kValid + "  ff_k: 3\noptimizer.lr: 1e-3\n", {"seed=18446744073709551615", "train.steps=7"});
  const RunConfig& config = loaded.config;
  CHECK(config.train.steps == 7);
  CHECK(config.seed == UINT64_MAX);
  CHECK(config.optimizer.lr == 1e-3);
  CHECK(config.data.train == "shards");
  CHECK(config.run.dir == "runs/a");
  CHECK(config.model.profile == "44M");
  CHECK(config.model.ff_k == 3);
  CHECK_FALSE(config.model.d_model.has_value());
  CHECK(config.train.precision == Precision::fp32);
  CHECK(config.checkpoint.every == 1000);
  CHECK(loaded.origin_text("train.steps") == "command line");
  CHECK(loaded.origin_text("model.ff_k") == "conf/a.yaml:8");
  CHECK(loaded.origin_text("optimizer.lr") == "conf/a.yaml:9");
  CHECK(loaded.origin_text("model.d_model") == "profile 44M");
  CHECK(loaded.origin_text("model.att_k") == "default");
  CHECK(loaded.warnings.empty());
}

TEST_CASE("all mistakes are reported at once, with their places") {
  const std::string text = complaint(R"(train:
  steps: 100
  batch_size: -4
  steps: 5
trian:
  seq_len: 3
data: {train: x, shuffle: maybe}
model:
  profile: 44M
  n_layers: "5"
  n_heads: [3]
)",
                                     {"optimizer.lr=0", "foo"});
  CHECK(
      text ==
      "conf/a.yaml:3:15: train.batch_size: expected a whole number with 1 <= x <= 1048576 (sequences), found \"-4\"\n"
      "conf/a.yaml:4:3: train.steps: given twice, first at line 2\n"
      "conf/a.yaml:6:3: trian.seq_len: unknown key; did you mean train.seq_len?\n"
      "conf/a.yaml:7:27: data.shuffle: expected true or false, found \"maybe\"\n"
      "conf/a.yaml:10:13: model.n_layers: expected a whole number with 1 <= x <= 65536 (layers), found the text \"5\"\n"
      "conf/a.yaml:11:12: model.n_heads: expected a whole number with 1 <= x <= 65536 (heads), found a list\n"
      "command line: optimizer.lr: expected a number with x > 0, found \"0\"\n"
      "command line: expected key.path=value, found \"foo\"");
}

TEST_CASE("a did-you-mean names the full dotted key") {
  CHECK(contains(refused("train.stpes=3"), "did you mean train.steps?"));
  CHECK(contains(refused("train.batch-size=3"), "did you mean train.batch_size?"));
  CHECK(contains(refused("lr=3"), "did you mean optimizer.lr?"));
  CHECK(contains(refused("train.lr=3"), "did you mean optimizer.lr?"));
  CHECK(contains(refused("evl.every=3"), "did you mean eval.every?"));
  CHECK(contains(refused("Model.Profile=44M"), "did you mean model.profile?"));
  CHECK(contains(complaint(kValid + "optimzer:\n"), "conf/a.yaml:8:1: optimzer: unknown key; did you mean optimizer?"));
  CHECK(contains(refused("zzzzzzzz=3"), "zzzzzzzz: unknown key; --help lists all"));
}

TEST_CASE("values must be of the type and in the range") {
  for (const char* text : {"train.steps=0",
                           "train.steps=1.5",
                           "train.steps=1e3",
                           "train.steps=",
                           "train.steps= 5",
                           "train.steps=99999999999999999999",
                           "seed=-1",
                           "seed=18446744073709551616",
                           "optimizer.lr=nan",
                           "optimizer.lr=inf",
                           "optimizer.lr=-1e-3",
                           "optimizer.lr=1e-3x",
                           "optimizer.lr=1e999",
                           "optimizer.beta1=1",
                           "model.dropout=1",
                           "model.rotate_fraction=1.01",
                           "data.shuffle=2",
                           "train.precision=fp8",
                           "train.precision=BF16",
                           "device=gpu",
                           "model.profile=44m",
                           "data.train=",
                           "train=5",
                           "train.steps.x=5",
                           "schedule.name=cosin",
                           "log.every=0",
                           "=3"}) {
    CAPTURE(text);
    const std::string message = refused(text);
    CHECK(message.starts_with("command line: "));
    CHECK(message.find('\n') == std::string::npos);  // one mistake, one line
  }
}

TEST_CASE("values in every accepted spelling") {
  CHECK(parse(kValid, {"data.shuffle=No"}).config.data.shuffle == false);
  CHECK(parse(kValid, {"data.shuffle=on"}).config.data.shuffle == true);
  CHECK(parse(kValid, {"optimizer.lr=+.5"}).config.optimizer.lr == 0.5);
  CHECK(parse(kValid, {"optimizer.grad_clip=0"}).config.optimizer.grad_clip == 0);
  CHECK(parse(kValid, {"sample.prompt=a = b, \"c\""}).config.sample.prompt == "a = b, \"c\"");
  CHECK(parse(kValid, {"train.precision=bf16"}).config.train.precision == Precision::bf16);
  CHECK(parse(kValid, {"model.profile=none", "model.d_model=8", "model.n_layers=2", "model.n_heads=1",
                       "model.ff_n_experts=8", "model.att_n_experts=1"})
            .config.model.d_model == 8);
  CHECK(parse(kValid + "sample: {prompt: 'yes'}\n").config.sample.prompt == "yes");
}

TEST_CASE("data.shuffle is another name for two values of data.order") {
  const auto data = [](std::vector<std::string> overrides) { return parse(kValid, overrides).config.data; };
  CHECK(data({}).order == SampleOrder::shuffled);
  CHECK(data({"data.shuffle=no"}).order == SampleOrder::sequential);
  CHECK(data({"data.shuffle=yes"}).order == SampleOrder::shuffled);
  CHECK(data({"data.order=lanes"}).shuffle == false);
  CHECK(data({"data.order=sequential", "data.shuffle=no"}).order == SampleOrder::sequential);
  CHECK(complaint(kValid, {"data.order=lanes", "data.shuffle=yes"}) ==
        "command line: data.shuffle: true contradicts data.order = lanes; data.order alone is enough");
  CHECK(contains(complaint(kValid, {"data.order=shuffled", "data.shuffle=no"}), "contradicts data.order = shuffled"));
  // What a run stores is read again, whichever name was used.
  for (const char* text : {"data.shuffle=no", "data.order=lanes", "data.order=shuffled"}) {
    RunConfig config = parse(kValid, {text}).config;
    CHECK(parse(config_yaml(config)).config.data.order == config.data.order);
  }
}

TEST_CASE("data.mix must be folders with shares that leave something to data.train") {
  CHECK(parse(kValid, {"data.mix=a=0.25, b = 0.5"}).config.data.mix == "a=0.25, b = 0.5");
  CHECK(contains(refused("data.mix=a"), "command line: data.mix: expected FOLDER=SHARE"));
  CHECK(contains(refused("data.mix=a=1"), "above 0 and below 1"));
  CHECK(contains(refused("data.mix=a=0.5,b=0.5"), "the shares add up to 1"));
}

TEST_CASE("fields that contradict each other are told together with what is missing") {
  const std::string text = complaint(
      "model: {d_model: 8, n_layers: 5, n_heads: 9, ff_n_experts: 4, att_n_experts: 3, att_k: 4}\nsample.every: 5\n");
  CHECK(
      text ==
      "conf/a.yaml: data.train: required, but not given: folder of training shards, as moeut-data tokenize writes it\n"
      "conf/a.yaml: train.steps: required, but not given: optimizer steps of the whole run\n"
      "conf/a.yaml:1:31: model.n_layers: 5 is not a multiple of model.group_size = 2\n"
      "conf/a.yaml: model.ff_k: 8 experts cannot be chosen of model.ff_n_experts = 4\n"
      "conf/a.yaml:1:88: model.att_k: 4 experts cannot be chosen of model.att_n_experts = 3\n"
      "conf/a.yaml:1:43: model.n_heads: 9 heads leave none of model.d_model = 8 to a head; set model.d_head\n"
      "conf/a.yaml:2:15: sample.every: sample texts need data.tokenizer; set it, or sample.every to 0");
  CHECK(contains(complaint("seed: 1\n"), "model.att_n_experts: required without a model.profile"));
  CHECK(contains(complaint("data:\n  train: ''\n"), "conf/a.yaml:2:10: data.train: may not be empty"));
  // A value that was refused contradicts nothing else.
  CHECK(complaint(kValid + "  n_layers: 5\n  group_size: x\n").find('\n') == std::string::npos);
}

TEST_CASE("cadences longer than the run warn and are accepted") {
  const LoadedConfig loaded = parse(
      kValid + "schedule: {warmup_steps: 4000}\ncheckpoint: {every: 101}\neval: {every: 100}\n", {"train.steps=1"});
  REQUIRE(loaded.warnings.size() == 3);
  CHECK(loaded.warnings[0] ==
        "schedule.warmup_steps = 4000 is longer than the run of train.steps = 1: the learning rate never reaches its "
        "peak");
  CHECK(contains(loaded.warnings[1], "checkpoint.every = 101"));
  CHECK(loaded.warnings[2] == "eval.every has no effect: no data.validation is given");
}

TEST_CASE("hostile YAML is refused with one line") {
  std::string bomb = "a: &a [x, x]\nb: &b [*a, *a]\n";
  CHECK(contains(complaint(bomb), "conf/a.yaml:2:8: YAML aliases"));
  CHECK(contains(complaint("x: &x {steps: 1}\ntrain:\n  <<: *x\n"), "aliases"));
  CHECK(contains(complaint(std::string(3000, '[')), "nested deeper than 16 levels"));
  CHECK(contains(complaint(std::string((1 << 20) + 1, '#')), "at most 1048576 are accepted"));
  CHECK(contains(complaint(kValid + "---\nseed: 3\n"), "a second YAML document begins"));
  // Of a file that cannot be read nothing is said to be missing.
  CHECK(contains(complaint("train: [1, 2"), "not valid YAML"));
  CHECK(complaint("train: [1, 2").find("required") == std::string::npos);
  CHECK(contains(complaint("# nothing\n"), "conf/a.yaml: it is empty, it sets no key"));
  CHECK(complaint("").find('\n') == std::string::npos);
  CHECK(contains(complaint("seed: 1\nrun: {dir: caf\xe9}\n"), "conf/a.yaml:2:1: not valid UTF-8"));
  CHECK(contains(complaint("just words"), "conf/a.yaml:1:1: expected lines of the form `key: value`"));
  CHECK(contains(complaint("? [a]\n: 3\n"), "a key must be a plain name"));
  CHECK(contains(complaint(kValid + "run: {dir: \"a\\0b\"}\n"), "a path may not hold control characters"));
  CHECK(contains(refused("data.tokenizer=\xff"), "expected UTF-8 text, found \"\\xff\""));
  CHECK(contains(refused("\x1b[2J=3"), "\"\\u001b[2J\": unknown key"));
  std::string list = "x: [";
  for (int i = 0; i < 10'001; ++i) list += "1,";
  CHECK(contains(complaint(list + "]"), "more than 10000 values"));
  std::string many;
  for (int i = 0; i < 150; ++i) many += "qqqqqqq" + std::to_string(i) + ": 1\n";
  CHECK(contains(complaint(kValid + many), "\n... and 50 more"));
}

TEST_CASE("the resolved configuration reads back to the same configuration") {
  const std::vector<std::string> overrides{"sample.prompt=\"\\ two\nlines\t'# \x7f é",
                                           "optimizer.lr=0.1234567890123456789",
                                           "optimizer.eps=5e-324",
                                           "model.dropout=0.1",
                                           "train.precision=tf32",
                                           "train.cuda_graph=on",
                                           "seed=18446744073709551615",
                                           "run.dir=a: b"};
  const std::string yaml = config_yaml(parse(kValid, overrides).config);
  const LoadedConfig again = parse_config(yaml, "runs/a/config.yaml");
  CHECK(config_yaml(again.config) == yaml);
  for (const Field& field : config_fields()) {
    CAPTURE(field.key);
    CHECK(field.get(again.config) == field.get(parse(kValid, overrides).config));
  }
}

TEST_CASE("print_config is the configuration itself, with origins") {
  const LoadedConfig loaded = parse(kValid, {"seed=3"});
  const std::string text = print_config(loaded);
  CHECK(contains(text, "seed: 3                                      # command line\n"));
  CHECK(contains(text, "  steps: 100                                 # conf/a.yaml:5\n"));
  CHECK(contains(text, "  # d_model:                                 # profile 44M\n"));
  CHECK(config_yaml(parse(text).config) == config_yaml(loaded.config));
}

TEST_CASE("a configuration file that cannot be read is a ConfigError") {
  const testing::ScratchFolder folder;
  CHECK_THROWS_WITH_AS(load_config(folder.path() / "no.yaml"), doctest::Contains("no.yaml': No such file"),
                       ConfigError);
  CHECK_THROWS_WITH_AS(load_config(folder.path()), doctest::Contains("not a regular file"), ConfigError);
  std::ofstream(folder.path() / "big.yaml") << std::string((1 << 20) + 1, ' ');
  CHECK_THROWS_AS(load_config(folder.path() / "big.yaml"), ConfigError);
  std::ofstream(folder.path() / "ok.yaml") << kValid;
  CHECK(load_config(folder.path() / "ok.yaml").config.run.dir == "runs/ok");
}

TEST_CASE("every field's default is in its own range and documented") {
  const RunConfig defaults;
  for (const Field& field : config_fields()) {
    CAPTURE(field.key);
    CHECK(find_field(field.key) == &field);
    CHECK_FALSE(field.help.empty());
    CHECK(contains(config_help(), "  " + field.key + " "));
    const FieldValue value = field.get(defaults);
    if (field.required || std::holds_alternative<std::monostate>(value)) continue;
    CHECK(parse_value(field, value_text(value), false) == value);
  }
}

TEST_CASE("docs/config.md and docs/config.schema.json are what the field table says") {
  const auto is_fresh = [](const char* file, const std::string& expected) {
    std::ifstream in(std::string(MOEUT_SOURCE_DIR "/docs/") + file);
    return std::string{std::istreambuf_iterator<char>(in), {}} == expected;
  };
  CHECK_MESSAGE(is_fresh("config.md", config_markdown()), "docs/config.md is stale; run scripts/generate-docs");
  CHECK_MESSAGE(is_fresh("config.schema.json", config_schema()),
                "docs/config.schema.json is stale; run scripts/generate-docs");
}

TEST_CASE("the JSON Schema has every key twice, in its section and dotted, with type, range and default") {
  const Json schema = Json::parse(config_schema());
  const Json& top = schema.at("properties");
  for (const Field& field : config_fields()) {
    CAPTURE(field.key);
    const std::string section(section_of(field.key));
    CHECK(top.at(field.key).at("$ref").as_string() == "#/$defs/" + field.key);
    if (!section.empty()) {
      const Json& members = top.at(section).at("properties");
      CHECK(members.at(field.key.substr(section.size() + 1)).at("$ref").as_string() == "#/$defs/" + field.key);
    }
    CHECK(schema.at("$defs").at(field.key).at("description").as_string().find(field.help) == 0);
  }
  const Json& beta = schema.at("$defs").at("optimizer.beta1");
  CHECK(beta.at("minimum").as_int64() == 0);
  CHECK(beta.at("exclusiveMaximum").as_int64() == 1);
  CHECK(beta.at("default").as_double() == 0.9);
  CHECK(schema.at("$defs").at("train.precision").at("enum").as_array().size() == 5);
  CHECK(schema.at("additionalProperties").as_bool() == false);
}
