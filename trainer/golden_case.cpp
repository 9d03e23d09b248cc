#include "trainer/golden_case.h"

#include <algorithm>
#include <memory>

#include "core/check.h"
#include "data/limited_child.h"
#include "layers/moeut_lm.h"
#include "trainer/golden_datasets.h"

namespace moeut {
namespace {

std::string quoted_path(const GoldenDatasets& file) {
  return "'" + file.path().string() + "'";
}

/// An attribute that is one of `allowed`.
std::string one_of(const GoldenDatasets& file, const std::string& name, const std::vector<std::string>& allowed) {
  const std::string value = file.text(name);
  require<IoError>(std::ranges::count(allowed, value) > 0, "{}: attribute '{}' is \"{}\", should be {}",
                   quoted_path(file), name, value, fmt::join(allowed, " or "));
  return value;
}

/// Parses a JSON attribute; the error says which.
template <class F>
auto parsed(const GoldenDatasets& file, const std::string& attribute, F&& parse) {
  const std::string json = file.text(attribute);
  try {
    return parse(json);
  } catch (const IoError& error) {
    throw IoError(fmt::format("{}: attribute '{}': {}", quoted_path(file), attribute, error.what()));
  }
}

using Shapes = std::map<std::string, Shape>;

/// Names and shapes of the model's parameters, without having them.
Shapes parameter_shapes(GoldenCase::Kind kind, const ModelConfig& config) {
  const ModuleOptions nowhere{.device = Device::meta()};
  std::unique_ptr<Module> model;
  if (kind == GoldenCase::Kind::lm) {
    model = std::make_unique<MoeutLm>(config, 0, nowhere);
  } else {
    model = std::make_unique<Moeut>(config, 0, nowhere);
  }
  Shapes shapes;
  model->visit_parameters([&](Parameter& p) { shapes[p.name] = p.value.shape(); });
  return shapes;
}

Shapes parameter_shapes(const GoldenDatasets& file, GoldenCase::Kind kind, const ModelConfig& config) {
  // Before a model is made as large as the configuration claims.
  const auto parameters = static_cast<int64_t>(file.list("params").size());
  require<IoError>(config.group_size <= parameters,
                   "{}: group 'params' has {} datasets, too few for group_size = {} distinct layers", quoted_path(file),
                   parameters, config.group_size);
  return parameter_shapes(kind, config);
}

/// The group's tensors; each must be a parameter and have its shape. `all`: none may be missing.
NamedTensors read_group(const GoldenDatasets& file, const std::string& group, const Shapes& shapes, bool all) {
  NamedTensors tensors;
  for (const std::string& name : file.list(group)) {
    if (name.starts_with("__")) continue;  // not a parameter: grads/__input__
    const auto expected = shapes.find(name);
    require<IoError>(expected != shapes.end(),
                     "{}: dataset '{}/{}' is no parameter of the model that 'config' describes", quoted_path(file),
                     group, name);
    tensors[name] = file.floats(group + "/" + name, expected->second);
  }
  for (const auto& [name, shape] : shapes) {
    require<IoError>(!all || tensors.contains(name), "{}: dataset '{}/{}' of shape {} is missing", quoted_path(file),
                     group, name, shape.str());
  }
  return tensors;
}

AttentionMask read_mask(const GoldenDatasets& file, GoldenCase::Kind kind, int64_t b, int64_t t) {
  AttentionMask mask;
  if (one_of(file, "mask", {"default", "explicit"}) == "default") {
    mask.causal = kind == GoldenCase::Kind::lm;
    return mask;
  }
  if (file.exists("input/src_length_mask")) mask.src_length_mask = file.mask("input/src_length_mask", {Shape{b, t}});
  if (file.exists("input/position_mask")) {
    mask.position_mask = file.mask("input/position_mask", {Shape{t, t}, Shape{b, t, t}});
  }
  return mask;
}

/// The inputs; returns the shape of what the model makes of them.
Shape read_inputs(const GoldenDatasets& file, GoldenCase& c) {
  if (c.kind == GoldenCase::Kind::lm) {
    c.tokens = file.ids("input/tokens", 2, c.config.n_tokens);
    c.targets = file.ids("input/targets", 2, c.config.n_tokens);
    file.require_shape("input/targets", c.targets.shape(), c.tokens.shape());
    return {c.tokens.shape()[0], c.tokens.shape()[1], c.config.n_tokens};
  }
  const Shape shape = file.shape("input/x", 3);
  const Shape expected{shape[0], shape[1], c.config.d_model};
  c.x = file.floats("input/x", expected);
  c.upstream = file.floats("input/upstream", expected);
  return expected;
}

/// A golden file's numbers cannot depend on random ones.
void require_no_dropout(const GoldenDatasets& file, const ModelConfig& config) {
  require<IoError>(config.dropout == 0 && config.ff_expert_dropout == 0 && config.att_expert_dropout == 0,
                   "{}: attribute 'config' asks for dropout in training, which cannot be compared: set dropout, "
                   "ff_expert_dropout and att_expert_dropout to 0",
                   quoted_path(file));
}

GoldenCase read_case(const GoldenDatasets& file) {
  GoldenCase c;
  c.kind = one_of(file, "kind", {"lm", "body"}) == "lm" ? GoldenCase::Kind::lm : GoldenCase::Kind::body;
  const bool lm = c.kind == GoldenCase::Kind::lm;
  c.config = parsed(file, "config", [&](const std::string& json) { return golden_model_config(json, lm); });
  c.train = file.flag("train");
  if (c.train) require_no_dropout(file, c.config);
  const Shapes shapes = parameter_shapes(file, c.kind, c.config);
  c.parameters = read_group(file, "params", shapes, true);
  const Shape output_shape = read_inputs(file, c);
  c.mask = read_mask(file, c.kind, output_shape[0], output_shape[1]);
  c.outputs = file.floats("expect/outputs", output_shape);
  c.reg_loss = file.scalar("expect/reg_loss");
  c.ce_loss = file.scalar("expect/ce_loss");
  if (c.train || !file.list("grads").empty()) c.gradients = read_group(file, "grads", shapes, true);
  if (!lm && file.exists("grads/__input__")) c.input_gradient = file.floats("grads/__input__", output_shape);
  return c;
}

GoldenTrajectory read_trajectory(const GoldenDatasets& file) {
  GoldenTrajectory t;
  one_of(file, "kind", {"lm"});
  t.config = parsed(file, "config", [](const std::string& json) { return golden_model_config(json, true); });
  require_no_dropout(file, t.config);
  t.training = parsed(file, "optimizer", [](const std::string& json) { return golden_optimizer(json); });
  const Shapes shapes = parameter_shapes(file, GoldenCase::Kind::lm, t.config);
  t.parameters = read_group(file, "params", shapes, true);
  t.tokens = file.ids("input/tokens", 3, t.config.n_tokens);
  require<IoError>(t.tokens.shape()[2] >= 2,
                   "{}: dataset 'input/tokens' is {}: a sequence needs at least one token and its target",
                   quoted_path(file), t.tokens.shape().str());
  const Shape a_step{t.steps()};
  t.ce_loss = file.floats("expect/ce_loss", a_step).to_vector<double>();
  t.reg_loss = file.floats("expect/reg_loss", a_step).to_vector<double>();
  t.grad_norm = file.floats("expect/grad_norm", a_step).to_vector<double>();
  t.lr = file.floats("expect/lr", a_step).to_vector<double>();
  t.final_parameters = read_group(file, "final", shapes, false);
  return t;
}

GoldenFile read_unguarded(const std::filesystem::path& path) {
  const GoldenDatasets file(path);
  const std::string format = one_of(file, "format", {"moeut-golden/1", "moeut-golden-trajectory/1"});
  if (format == "moeut-golden/1") return read_case(file);
  return read_trajectory(file);
}

/// What reading may cost: floats of a golden file hardly compress and take twice their bytes as f64.
ChildLimits limits_for(const std::filesystem::path& path) {
  std::error_code error;
  const auto bytes = std::filesystem::file_size(path, error);
  if (error) return {};  // reading says what is wrong
  const int seconds = 20 + static_cast<int>(std::min<uintmax_t>(bytes / 10'000'000, 3600));
  return {.cpu_seconds = seconds, .wall_seconds = 2 * seconds, .extra_memory = (size_t{1} << 30) + 8 * bytes};
}

}  // namespace

GoldenFile read_golden(const std::filesystem::path& path) {
  run_in_limited_child(
      fmt::format("'{}'", path.string()), [&] { return read_unguarded(path), std::string("whole"); }, limits_for(path));
  return read_unguarded(path);
}

}  // namespace moeut
