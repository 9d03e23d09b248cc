#include "trainer/golden_config.h"

#include <algorithm>
#include <variant>

#include "core/check.h"
#include "data/json.h"
#include "trainer/text_util.h"

namespace moeut {
namespace {

/// Larger extents are mistakes, and products of them would overflow.
constexpr int64_t kLargest = int64_t{1} << 31;

using Field = std::variant<int64_t*, double*>;

std::vector<std::pair<std::string, Field>> fields_of(ModelConfig& c) {
  return {{"n_tokens", &c.n_tokens},
          {"d_model", &c.d_model},
          {"n_layers", &c.n_layers},
          {"n_heads", &c.n_heads},
          {"ff_n_experts", &c.ff_n_experts},
          {"att_n_experts", &c.att_n_experts},
          {"d_head", &c.d_head},
          {"group_size", &c.group_size},
          {"ff_k", &c.ff_k},
          {"att_k", &c.att_k},
          {"ff_expert_dropout", &c.ff_expert_dropout},
          {"att_expert_dropout", &c.att_expert_dropout},
          {"ff_expert_size", &c.ff_expert_size},
          {"dropout", &c.dropout},
          {"entropy_reg", &c.entropy_reg},
          {"att_entropy_reg", &c.att_entropy_reg},
          {"rotate_fraction", &c.rotate_fraction},
          {"rope_base", &c.rope_base}};
}

void assign(const Field& field, const Json& value) {
  if (const auto* real = std::get_if<double*>(&field)) {
    **real = value.as_double();
    return;
  }
  const int64_t whole = value.as_int64();
  require<IoError>(whole >= 0 && whole < kLargest, "{} is out of range", whole);
  *std::get<int64_t*>(field) = whole;
}

[[noreturn]] void refuse_argument(const std::string& name, const std::vector<std::pair<std::string, Field>>& fields) {
  std::vector<std::string> names;
  for (const auto& field : fields) names.push_back(field.first);
  const std::string guess = did_you_mean(name, names);
  throw IoError(fmt::format("the model has no argument {}{}", show_text(name),
                            guess.empty() ? "" : fmt::format("; did you mean {}?", guess)));
}

/// The errors of `read` say which member they are about.
template <class F>
void in_member(const std::string& name, F&& read) {
  try {
    read();
  } catch (const IoError& error) {
    throw IoError(fmt::format("\"{}\": {}", name, error.what()));
  }
}

double number(const Json& object, const std::string& name) {
  double value = 0;
  const Json& member = object.at(name);
  in_member(name, [&] { value = member.as_double(); });
  return value;
}

void require_text(const Json& object, const std::string& name, std::string_view only) {
  const Json& member = object.at(name);
  in_member(name, [&] {
    require<IoError>(member.as_string() == only, "{} is not supported here, only \"{}\"", show_text(member.as_string()),
                     only);
  });
}

}  // namespace

ModelConfig golden_model_config(std::string_view json, bool language_model) {
  ModelConfig config;
  const auto fields = fields_of(config);
  const Json root = Json::parse(json);
  for (const auto& [name, value] : root.as_object()) {
    if (value.is_null()) continue;
    const auto found = std::find_if(fields.begin(), fields.end(), [&](const auto& f) { return f.first == name; });
    if (found == fields.end()) refuse_argument(name, fields);
    in_member(name, [&] { assign(found->second, value); });
  }
  try {
    config.validate(language_model);
  } catch (const ConfigError& error) {
    throw IoError(error.what());
  }
  return config;
}

GoldenOptimizer golden_optimizer(std::string_view json) {
  const Json root = Json::parse(json);
  require_text(root, "name", "adamw");
  require_text(root, "decay", "all parameters");
  GoldenOptimizer g;
  g.optimizer.lr = number(root, "lr");
  in_member("betas", [&] {
    const Json::Array& betas = root.at("betas").as_array();
    require<IoError>(betas.size() == 2, "expected two numbers, found {}", betas.size());
    g.optimizer.beta1 = betas[0].as_double();
    g.optimizer.beta2 = betas[1].as_double();
  });
  g.optimizer.eps = number(root, "eps");
  g.optimizer.weight_decay = number(root, "weight_decay");
  const Json* clip = root.find("grad_clip");
  g.optimizer.grad_clip = clip == nullptr || clip->is_null() ? 0 : number(root, "grad_clip");
  in_member("warmup_steps", [&] {
    g.schedule.warmup_steps = root.at("warmup_steps").as_int64();
    require<IoError>(g.schedule.warmup_steps >= 0, "{} is negative", g.schedule.warmup_steps);
  });
  g.schedule.min_lr_multiplier = number(root, "min_lr_multiplier");
  return g;
}

}  // namespace moeut
