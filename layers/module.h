// What every layer is: an owner of named parameters.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "autograd/parameter.h"

namespace moeut {

/// Where and in which precision a module's parameters are made.
struct ModuleOptions {
  DType dtype = DType::f32;
  Device device = Device::cpu();
};

using ParameterVisitor = std::function<void(Parameter&)>;

class Module {
 public:
  virtual ~Module() = default;
  /// Calls `visit` once for each parameter, always in the same order.
  virtual void visit_parameters(const ParameterVisitor& visit) = 0;

  std::vector<Parameter*> parameters() {
    std::vector<Parameter*> all;
    visit_parameters([&](Parameter& p) { all.push_back(&p); });
    return all;
  }
};

/// An uninitialised parameter.
inline Parameter make_parameter(std::string name, const Shape& shape, const ModuleOptions& options,
                                bool is_matrix = true) {
  Parameter p;
  p.name = std::move(name);
  p.value = Tensor::empty(shape, options.dtype, options.device);
  p.is_matrix = is_matrix;
  return p;
}

}  // namespace moeut
