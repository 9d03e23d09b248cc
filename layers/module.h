// What every layer is: an owner of named parameters.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "autograd/parameter.h"

namespace moeut {

/// Where and in which precision a module's parameters are made.
struct ModuleOptions {
  DType dtype = DType::f32;  ///< of parameters, their gradients and the residual stream
  Device device = Device::cpu();
  /// Of what goes into matrix products; unset: dtype. A narrow type must have dtype as its wide type: mixed precision.
  std::optional<DType> compute = {};

  DType compute_type() const { return compute.value_or(dtype); }
};

using ParameterVisitor = std::function<void(Parameter&)>;

class Module {
 public:
  virtual ~Module() = default;
  /// Calls `visit` once for each parameter, always in the same order.
  virtual void visit_parameters(const ParameterVisitor& visit) = 0;

  /// To be called when values were set from outside.
  void refresh_narrow() {
    visit_parameters([](Parameter& p) { p.refresh_narrow(); });
  }

  std::vector<Parameter*> parameters() {
    std::vector<Parameter*> all;
    visit_parameters([&](Parameter& p) { all.push_back(&p); });
    return all;
  }
};

/// An uninitialised parameter; a matrix has a narrow copy in mixed precision.
inline Parameter make_parameter(std::string name, const Shape& shape, const ModuleOptions& options,
                                bool is_matrix = true) {
  Parameter p;
  if (is_matrix && options.compute_type() != options.dtype)
    p.narrow = Tensor::empty(shape, options.compute_type(), options.device);
  p.name = std::move(name);
  p.value = Tensor::empty(shape, options.dtype, options.device);
  p.is_matrix = is_matrix;
  return p;
}

}  // namespace moeut
