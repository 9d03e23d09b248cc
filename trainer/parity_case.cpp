#include <cmath>

#include "autograd/ops/cross_entropy.h"
#include "trainer/parity.h"
#include "trainer/parity_model.h"

namespace moeut {
namespace {

/// What a forward pass gives, and the gradients that backward starts from.
struct Pass {
  Tensor outputs;
  double reg_loss = 0, ce_loss = 0;
  Variable input;  ///< of a body
  std::vector<std::pair<Variable, Tensor>> seeds;

  void add_seed(const Variable& root, const Tensor& gradient) {
    if (root.needs_gradient()) seeds.emplace_back(root, gradient);
  }
};

AttentionMask mask_on(Device device, AttentionMask mask) {
  if (mask.src_length_mask.defined()) mask.src_length_mask = mask.src_length_mask.to(device);
  if (mask.position_mask.defined()) mask.position_mask = mask.position_mask.to(device);
  if (mask.first_key.defined()) mask.first_key = mask.first_key.to(device);
  return mask;
}

Tensor one(const ModuleOptions& where) {
  return on(where, Tensor::from<double>({1}, {1}));
}

Pass forward(const GoldenCase& c, MoeutLm& model, const ModuleOptions& where, ForwardContext& context) {
  MoeutLm::Options options;
  options.mask = mask_on(where.device, c.mask);
  const MoeutOutput out = model.forward(context, c.tokens.to(where.device), options);
  const double scale = 1.0 / static_cast<double>(c.targets.size());
  const Variable ce = ops::cross_entropy(context.tape, out.outputs, c.targets.to(where.device), scale).loss;
  Pass pass{out.outputs.value(), out.reg_loss.value().item(), ce.value().item(), {}, {}};
  pass.add_seed(ce, one(where));
  pass.add_seed(out.reg_loss, one(where));
  return pass;
}

double dot(const Tensor& a, const Tensor& b) {
  const std::vector<double> x = a.to(Device::cpu(), DType::f64).to_vector<double>();
  const std::vector<double> y = b.to_vector<double>();
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) sum += x[i] * y[i];
  return sum;
}

/// ce_loss of a body is Σ outputs · upstream.
Pass forward(const GoldenCase& c, Moeut& model, const ModuleOptions& where, ForwardContext& context) {
  const Variable x = context.tape.leaf(on(where, c.x));
  const MoeutOutput out = model.forward(context, x, mask_on(where.device, c.mask));
  const Tensor& outputs = out.outputs.value();
  Pass pass{outputs, out.reg_loss.value().item(), dot(outputs, c.upstream), x, {}};
  pass.add_seed(out.outputs, on(where, c.upstream));
  pass.add_seed(out.reg_loss, one(where));
  return pass;
}

ForwardContext context_of(const GoldenCase& c, Tape& tape) {
  return c.train ? ForwardContext::training(tape, 0, 0) : ForwardContext(tape);
}

/// The experts that the fp64 run chooses.
template <class Model>
RoutingTrace reference_routing(const GoldenCase& c) {
  const auto model = make_model<Model>(c.config, c.parameters, kExact);
  Tape tape(Tape::Recording::off);
  ForwardContext context = context_of(c, tape);
  RoutingTrace trace;
  context.record = &trace;
  forward(c, *model, kExact, context);
  return trace;
}

/// A gradient that is zero in exact arithmetic (of q and k where every query sees one key) is nothing but rounding in
/// the file too: it is measured against the gradient of the whole model.
class GradientComparison {
 public:
  explicit GradientComparison(const NamedTensors& expected) : expected_(expected) {
    double squared = 0;
    for (const auto& [name, gradient] : expected) squared += std::pow(norm_of(gradient), 2);
    whole_ = std::sqrt(squared);
  }

  NamedError compare(const std::string& name, const Tensor& actual, const Tensor& expected) const {
    const bool vanishes = norm_of(expected) < 1e-12 * whole_;
    return {name, relative_error(actual, expected, vanishes ? whole_ : 0)};
  }
  NamedError compare(const Parameter& p) const {
    const Tensor zero = p.has_gradient ? Tensor() : Tensor::zeros(p.value.shape(), DType::f64);
    return compare(p.name, p.has_gradient ? p.gradient : zero, expected_.at(p.name));
  }

 private:
  const NamedTensors& expected_;
  double whole_ = 0;
};

/// What a run in fp16 multiplies its losses by, so that gradients stay clear of the format's smallest numbers.
constexpr double kFp16Scale = 1024;

Tensor times(const Tensor& x, double factor) {
  if (factor == 1) return x;
  std::vector<double> values = x.to(Device::cpu(), DType::f64).to_vector<double>();
  for (double& v : values) v *= factor;
  return Tensor::from(values, x.shape()).to(Device::cpu(), x.dtype()).to(x.device());
}

template <class Model>
CaseErrors measure_case(const GoldenCase& c, const ParityOptions& options) {
  const ModuleOptions where = module_options(options.precision, options.device);
  RoutingTrace trace;
  if (options.routing == RoutingSource::reference) trace = reference_routing<Model>(c);
  const auto model = make_model<Model>(c.config, c.parameters, where);
  const bool backward = !c.gradients.empty();
  Tape tape(backward ? Tape::Recording::on : Tape::Recording::off);
  ForwardContext context = context_of(c, tape);
  if (options.routing == RoutingSource::reference) context.replay = &trace;
  Pass pass = forward(c, *model, where, context);
  CaseErrors errors{.outputs = relative_error(pass.outputs, c.outputs),
                    .reg_loss = relative_error(pass.reg_loss, c.reg_loss),
                    .ce_loss = relative_error(pass.ce_loss, c.ce_loss),
                    .gradients = {}};
  if (!backward) return errors;
  const double scale = options.precision == Precision::fp16 ? kFp16Scale : 1;
  for (auto& [root, gradient] : pass.seeds) gradient = times(gradient, scale);
  tape.backward_from(pass.seeds);
  const GradientComparison comparison(c.gradients);
  model->visit_parameters([&](Parameter& p) {
    if (p.has_gradient) p.gradient = times(p.gradient, 1 / scale);
    errors.gradients.push_back(comparison.compare(p));
  });
  if (c.input_gradient.defined()) {
    errors.gradients.push_back(
        comparison.compare("__input__", times(pass.input.gradient(), 1 / scale), c.input_gradient));
  }
  return errors;
}

}  // namespace

CaseErrors measure(const GoldenCase& golden, const ParityOptions& options) {
  return golden.kind == GoldenCase::Kind::lm ? measure_case<MoeutLm>(golden, options)
                                             : measure_case<Moeut>(golden, options);
}

}  // namespace moeut
