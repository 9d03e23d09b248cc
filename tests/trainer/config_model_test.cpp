// What the configuration says of the model's arguments is what the model does.
#include <doctest/doctest.h>

#include "layers/model_config.h"
#include "trainer/config_fields.h"

using namespace moeut;

TEST_CASE("the documented defaults of model.* are the constructor's") {
  const ModelConfig model;
  const auto check = [](const char* key, auto value) {
    CAPTURE(key);
    const Field* field = find_field(key);
    REQUIRE(field != nullptr);
    CHECK(field->default_text == value_text(FieldValue(value)));
  };
  check("model.n_tokens", model.n_tokens);
  check("model.d_head", model.d_head);
  check("model.group_size", model.group_size);
  check("model.ff_k", model.ff_k);
  check("model.att_k", model.att_k);
  check("model.ff_expert_size", model.ff_expert_size);
  check("model.ff_expert_dropout", model.ff_expert_dropout);
  check("model.att_expert_dropout", model.att_expert_dropout);
  check("model.dropout", model.dropout);
  check("model.entropy_reg", model.entropy_reg);
  check("model.att_entropy_reg", model.att_entropy_reg);
  check("model.rotate_fraction", model.rotate_fraction);
  check("model.rope_base", model.rope_base);
}

TEST_CASE("model.profile knows every profile and no other") {
  std::vector<std::string> expected{"none"};
  expected.insert(expected.end(), profile_names().begin(), profile_names().end());
  CHECK(find_field("model.profile")->choices == expected);
}
