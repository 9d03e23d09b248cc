#include "layers/model_config.h"

#include <cmath>
#include <limits>

#include "layers/switch_head.h"
#include "tests/layers/tiny_model.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

std::string refusal(const ModelConfig& config, bool language_model = true) {
  try {
    config.validate(language_model);
  } catch (const ConfigError& e) {
    return e.what();
  }
  return "";
}

std::string refusal(const std::function<void(ModelConfig&)>& change) {
  return refusal(tiny_config(change));
}

}  // namespace

TEST_CASE("model_config: what is valid is accepted") {
  CHECK(refusal(tiny_config()) == "");
  for (const std::string& name : profile_names()) CHECK(refusal(profile(name)) == "");
  // att_k counts only where there is something to choose, n_tokens only with an embedding, d_head 0 is d_model / H.
  CHECK(refusal([](ModelConfig& c) { c.att_n_experts = 1; }) == "");
  CHECK(refusal(tiny_config([](ModelConfig& c) { c.n_tokens = 0; }), false) == "");
  CHECK(refusal([](ModelConfig& c) { c.d_head = 0; }) == "");
}

TEST_CASE("model_config: every invalid argument is named with its value and what is allowed") {
  const auto expect = [](const std::string& problem, const std::function<void(ModelConfig&)>& change) {
    CHECK(refusal(change) == "model: invalid arguments:\n  " + problem);
  };
  expect("n_tokens = 0: must be at least 1", [](ModelConfig& c) { c.n_tokens = 0; });
  expect("d_model = -8: must be at least 1", [](ModelConfig& c) { c.d_model = -8; });
  expect("n_layers = 0: must be at least 1", [](ModelConfig& c) { c.n_layers = 0; });
  expect("n_heads = 0: must be at least 1", [](ModelConfig& c) { c.n_heads = 0; });
  expect("att_n_experts = 0: must be at least 1", [](ModelConfig& c) { c.att_n_experts = 0; });
  expect("group_size = 0: must be at least 1", [](ModelConfig& c) { c.group_size = 0; });
  expect("ff_k = 0: must be at least 1", [](ModelConfig& c) { c.ff_k = 0; });
  expect("att_k = -1: must be at least 1", [](ModelConfig& c) { c.att_k = -1; });
  expect("ff_expert_size = 0: must be at least 1", [](ModelConfig& c) { c.ff_expert_size = 0; });
  expect("d_head = -1: must be at least 1, or 0 for d_model / n_heads", [](ModelConfig& c) { c.d_head = -1; });
  expect("n_layers = 5: must be a multiple of group_size = 2", [](ModelConfig& c) { c.n_layers = 5; });
  expect("n_layers = 4: must be a multiple of group_size = 8", [](ModelConfig& c) { c.group_size = 8; });
  expect("ff_k = 6: must be at most ff_n_experts = 5", [](ModelConfig& c) { c.ff_k = 6; });
  expect("att_k = 4: must be at most att_n_experts = 3", [](ModelConfig& c) { c.att_k = 4; });
  expect("d_model = 3: gives n_heads = 4 heads no dimension; set d_head", [](ModelConfig& c) {
    c.d_model = 3;
    c.n_heads = 4;
    c.d_head = 0;
  });
  expect("ff_expert_dropout = 1: must be in [0, 1)", [](ModelConfig& c) { c.ff_expert_dropout = 1; });
  expect("att_expert_dropout = -0.1: must be in [0, 1)", [](ModelConfig& c) { c.att_expert_dropout = -0.1; });
  expect("dropout = nan: must be in [0, 1)", [](ModelConfig& c) { c.dropout = std::nan(""); });
  expect("entropy_reg = -1: must be finite and at least 0", [](ModelConfig& c) { c.entropy_reg = -1; });
  expect("att_entropy_reg = inf: must be finite and at least 0",
         [](ModelConfig& c) { c.att_entropy_reg = std::numeric_limits<double>::infinity(); });
  expect("rotate_fraction = 1.5: must be in [0, 1]", [](ModelConfig& c) { c.rotate_fraction = 1.5; });
  expect("rope_base = 1: must be greater than 1", [](ModelConfig& c) { c.rope_base = 1; });
}

TEST_CASE("model_config: all problems are reported at once, by the constructors too") {
  const ModelConfig bad = tiny_config([](ModelConfig& c) {
    c.n_layers = 7;
    c.ff_k = 9;
    c.dropout = 2;
  });
  const char* all =
      "model: invalid arguments:\n  n_layers = 7: must be a multiple of group_size = 2\n"
      "  ff_k = 9: must be at most ff_n_experts = 5\n  dropout = 2: must be in [0, 1)";
  CHECK(refusal(bad) == all);
  CHECK_THROWS_WITH_AS(MoeutLm{bad}, all, ConfigError);
  CHECK_THROWS_WITH_AS(Moeut(bad, 1), all, ConfigError);
}

TEST_CASE("model_config: rotated dims are an even number, rounded down") {
  CHECK(profile("44M").n_rotate() == 40);  // of 82: half is 41
  CHECK(profile("126M").n_rotate() == 48);
  CHECK(tiny_config([](ModelConfig& c) { c.rotate_fraction = 1; }).n_rotate() == 4);
  CHECK(tiny_config([](ModelConfig& c) { c.rotate_fraction = 0; }).n_rotate() == 0);
  CHECK(tiny_config([](ModelConfig& c) { c.d_head = 3; }).n_rotate() == 0);
}

TEST_CASE("model_config: the parameter count is the model's") {
  const auto check = [](const ModelConfig& c) {
    MoeutLm model(c, 1, {.device = Device::meta()});
    int64_t count = 0;
    for (const Parameter* p : model.parameters()) count += p->value.size();
    CHECK(c.parameter_count() == count);
  };
  for (const std::string& name : profile_names()) check(profile(name));
  check(tiny_config());
  check(tiny_config([](ModelConfig& c) { c.att_n_experts = 1; }));
}

TEST_CASE("model_config: the profiles' sizes") {
  // 2 V D + V + 2 D + G (2 D H P + 2 H Ea D (P + 1) + E D (2 S + 1) + 4 D), worked out by hand from the paper's
  // settings.
  CHECK(profile("44M").parameter_count() == 44'345'792);
  CHECK(profile("126M").parameter_count() == 125'669'696);
  CHECK(profile("244M").parameter_count() == 243'326'784);
  CHECK(profile("318M").parameter_count() == 318'107'456);
  CHECK(profile("727M").parameter_count() == 727'424'320);
  CHECK(profile("1B").parameter_count() == 1'040'319'296);
  CHECK_THROWS_WITH_AS(profile("2B"), "model.profile = '2B': is none of 44M, 126M, 244M, 318M, 727M, 1B", ConfigError);
}

namespace {

/// A user's attention: passes scaled values on and counts its calls.
class Identity : public AttentionLayer {
 public:
  Identity(const ModelConfig& config, std::string name, const ModuleOptions& options)
      : scale(make_parameter(std::move(name) + ".scale", {config.d_model}, options, false)),
        shift(make_parameter(scale.name + "_shift", {config.d_model}, options, false)) {
    init_constant(scale, 1);
    init_constant(shift, 0);
  }
  Variable forward(ForwardContext& context, const Inputs& in, const AttentionMask&, LayerCache*) override {
    ++calls;
    return ops::layer_norm(context.tape, in.v_source, context.tape.parameter(scale), context.tape.parameter(shift));
  }
  void visit_parameters(const ParameterVisitor& visit) override {
    visit(scale);
    visit(shift);
  }

  Parameter scale, shift;
  int calls = 0;
};

}  // namespace

TEST_CASE("model_config: a user's attention layer takes SwitchHead's place") {
  std::vector<std::string> names;
  std::vector<Identity*> made;
  const ModelConfig config = tiny_config([&](ModelConfig& c) {
    c.attention = [&](const ModelConfig& given, const std::string& name, uint64_t seed, const ModuleOptions& options) {
      names.push_back(name);
      CHECK(seed == 1);
      auto layer = std::make_unique<Identity>(given, name, options);
      made.push_back(layer.get());
      return layer;
    };
  });
  MoeutLm model(config, 1, kInF64);
  CHECK(names == std::vector<std::string>{"transformer.layers.0.attention", "transformer.layers.1.attention"});
  std::vector<std::string> parameters;
  for (const Parameter* p : model.parameters()) parameters.push_back(p->name);
  CHECK(std::count(parameters.begin(), parameters.end(), "transformer.layers.1.attention.scale") == 1);
  CHECK(std::count(parameters.begin(), parameters.end(), "transformer.layers.1.attention.q.weight") == 0);

  Tape tape;
  ForwardContext context = ForwardContext::training(tape, 1, 0);
  const MoeutOutput out = model.forward(context, random_ids({2, 3}, 13, 1));
  tape.backward({{ops::cross_entropy(tape, out.outputs, random_ids({2, 3}, 13, 2), 1).loss}, {out.reg_loss}});
  for (const Identity* layer : made) {
    CHECK(layer->calls == 2);  // four applications of a group of two
    CHECK(layer->scale.has_gradient);
  }
}
