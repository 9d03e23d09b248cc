// The model that a parity measurement runs. Private to trainer/parity_*.cpp.
#pragma once

#include <memory>

#include "layers/moeut_lm.h"
#include "trainer/parity.h"
#include "trainer/run_inputs.h"

namespace moeut {

/// What decides which experts a reference-routed run takes.
inline constexpr ModuleOptions kExact{.dtype = DType::f64};

/// A copy where a model's tensors are, of their type.
inline Tensor on(const ModuleOptions& where, const Tensor& t) {
  return t.to(Device::cpu(), where.dtype).to(where.device);
}

/// A new model with the file's parameters.
template <class Model>
std::unique_ptr<Model> make_model(const ModelConfig& config, const NamedTensors& values, const ModuleOptions& options) {
  auto model = std::make_unique<Model>(config, 0, options);
  model->visit_parameters([&](Parameter& p) { p.value.copy_from(on(options, values.at(p.name))); });
  model->refresh_narrow();
  return model;
}

}  // namespace moeut
