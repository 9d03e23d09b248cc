#include "layers/model_config.h"

#include <cmath>

#include "core/check.h"

namespace moeut {

int64_t ModelConfig::n_rotate() const {
  return 2 * static_cast<int64_t>(std::floor(static_cast<double>(head_dim()) * rotate_fraction / 2));
}

int64_t ModelConfig::parameter_count() const {
  const int64_t hp = n_heads * head_dim(), d = d_model;
  const int64_t attention_size =
      2 * d * hp +
      (att_n_experts > 1 ? 2 * att_n_experts * d * hp + 2 * n_heads * att_n_experts * d : 2 * d * hp + n_heads * d);
  const int64_t layer = attention_size + ff_n_experts * (2 * d * ff_expert_size + d) + 4 * d;
  return group_size * layer + 2 * n_tokens * d + n_tokens + 2 * d;
}

namespace {

class Checker {
 public:
  template <class T>
  void expect(bool good, const char* field, T value, const std::string& allowed) {
    if (!good) problems_ += fmt::format("\n  {} = {}: {}", field, value, allowed);
  }
  void positive(const char* field, int64_t value) { expect(value >= 1, field, value, "must be at least 1"); }
  void probability(const char* field, double value) {
    expect(value >= 0 && value < 1, field, value, "must be in [0, 1)");
  }
  void not_negative(const char* field, double value) {
    expect(value >= 0 && std::isfinite(value), field, value, "must be finite and at least 0");
  }
  void finish() const { require<ConfigError>(problems_.empty(), "model: invalid arguments:{}", problems_); }

 private:
  std::string problems_;
};

}  // namespace

void ModelConfig::validate(bool language_model) const {
  Checker c;
  if (language_model) c.positive("n_tokens", n_tokens);
  for (const auto& [field, value] : {std::pair{"d_model", d_model},
                                     {"n_layers", n_layers},
                                     {"n_heads", n_heads},
                                     {"ff_n_experts", ff_n_experts},
                                     {"att_n_experts", att_n_experts},
                                     {"group_size", group_size},
                                     {"ff_k", ff_k},
                                     {"att_k", att_k},
                                     {"ff_expert_size", ff_expert_size}}) {
    c.positive(field, value);
  }
  c.expect(d_head >= 0, "d_head", d_head, "must be at least 1, or 0 for d_model / n_heads");
  if (d_head == 0 && n_heads > 0)
    c.expect(d_model >= n_heads, "d_model", d_model,
             fmt::format("gives n_heads = {} heads no dimension; set d_head", n_heads));
  if (group_size > 0) {
    c.expect(n_layers % group_size == 0, "n_layers", n_layers,
             fmt::format("must be a multiple of group_size = {}", group_size));
  }
  c.expect(ff_k <= ff_n_experts, "ff_k", ff_k, fmt::format("must be at most ff_n_experts = {}", ff_n_experts));
  if (att_n_experts > 1)
    c.expect(att_k <= att_n_experts, "att_k", att_k, fmt::format("must be at most att_n_experts = {}", att_n_experts));
  c.probability("ff_expert_dropout", ff_expert_dropout);
  c.probability("att_expert_dropout", att_expert_dropout);
  c.probability("dropout", dropout);
  c.not_negative("entropy_reg", entropy_reg);
  c.not_negative("att_entropy_reg", att_entropy_reg);
  c.expect(rotate_fraction >= 0 && rotate_fraction <= 1, "rotate_fraction", rotate_fraction, "must be in [0, 1]");
  c.expect(rope_base > 1 && std::isfinite(rope_base), "rope_base", rope_base, "must be greater than 1");
  c.finish();
}

const std::vector<std::string>& profile_names() {
  static const std::vector<std::string> names = {"44M", "126M", "244M", "318M", "727M", "1B"};
  return names;
}

// [Csordás et al. 2024, the C4 sweeps of the official training code; ../shared/design/paper.md section 3]
ModelConfig profile(std::string_view name) {
  const auto make = [](int64_t d, int64_t layers, int64_t group, int64_t heads, int64_t head_dim, int64_t att_experts,
                       int64_t experts, int64_t k) {
    ModelConfig c;
    c.n_tokens = 8000;
    c.d_model = d;
    c.n_layers = layers;
    c.group_size = group;
    c.n_heads = heads;
    c.d_head = head_dim;
    c.att_n_experts = att_experts;
    c.ff_n_experts = experts;
    c.ff_k = k;
    return c;
  };
  if (name == "44M") return make(412, 16, 2, 4, 82, 8, 155, 12);
  if (name == "126M") return make(768, 18, 2, 4, 96, 10, 254, 12);
  if (name == "244M") return make(1024, 18, 2, 4, 128, 10, 387, 16);
  if (name == "318M") return make(1024, 24, 3, 4, 128, 10, 338, 16);
  if (name == "727M") return make(1280, 36, 4, 5, 128, 13, 467, 20);
  if (name == "1B") return make(1536, 36, 4, 6, 128, 12, 565, 24);
  throw ConfigError(fmt::format("model.profile = '{}': is none of 44M, 126M, 244M, 318M, 727M, 1B", name));
}

}  // namespace moeut
