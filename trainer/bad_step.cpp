#include "trainer/bad_step.h"

#include <fmt/format.h>

#include <cmath>

namespace moeut {
namespace {

/// "element 3 of 12 is nan" of the first such; empty if there is none.
std::string describe_not_finite(const Tensor& tensor) {
  const Tensor host = tensor.to(Device::cpu(), DType::f64);
  for (int64_t i = 0; i < host.size(); ++i)
    if (!std::isfinite(host.data<double>()[i]))
      return fmt::format("element {} of {} is {}", i, host.size(), host.data<double>()[i]);
  return "";
}

std::string find_in_parameters(MoeutLm& model, const char* what, const auto& tensor_of) {
  std::string found;
  model.visit_parameters([&](Parameter& p) {
    if (!found.empty()) return;
    const Tensor tensor = tensor_of(p);
    const std::string where = tensor.defined() ? describe_not_finite(tensor) : "";
    if (!where.empty()) found = fmt::format("{} {} ({})", what, p.name, where);
  });
  return found;
}

}  // namespace

std::optional<std::string> find_not_finite(MoeutLm& model, AdamW& optimizer, const Batch& batch,
                                           const StepOptions& options) {
  if (std::string found = find_in_parameters(model, "parameter", [](Parameter& p) { return p.value; }); !found.empty())
    return found;
  const Tensor& head = model.lm_head.weight.value;
  const WholeBatch whole = options.whole.value_or(WholeBatch::of(batch));
  StepInputs inputs(StepForm::of(batch, options.micro_batch_size, whole.sequences), head.device(), head.dtype());
  inputs.write(batch, whole, options.seed);
  accumulate_gradients(model, optimizer, inputs, options);
  std::string found = find_in_parameters(model, "the gradient of parameter",
                                         [](Parameter& p) { return p.has_gradient ? p.gradient : Tensor(); });
  model.visit_parameters([](Parameter& p) { p.clear_gradient(); });
  if (found.empty()) return std::nullopt;
  return found;
}

}  // namespace moeut
