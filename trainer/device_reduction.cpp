#include "trainer/device_reduction.h"

#include <algorithm>

#include "autograd/op.h"
#include "core/check.h"
#include "kernels/elementwise.h"

namespace moeut {
namespace {

DeviceCollectives& collectives_of(Communicator& communicator) {
  require<Error>(communicator.device() != nullptr, "device reduction: these ranks have no device collectives");
  return *communicator.device();
}

}  // namespace

DeviceReduction::DeviceReduction(Communicator& communicator, const std::vector<Parameter*>& parameters,
                                 const Options& options)
    : communicator_(communicator),
      collectives_(collectives_of(communicator)),
      options_(options),
      plan_(parameters, communicator.size()) {
  const Device device = plan_.parameters().front()->value.device();
  int64_t largest = 0;
  for (Parameter* p : plan_.parameters()) {
    largest = std::max(largest, p->value.size());
    p->gradient_storage();
  }
  if (options_.precision == ReducePrecision::bf16) {
    const int64_t room = largest + static_cast<int64_t>(options_.bucket_bytes / sizeof(float));
    narrow_ = Tensor::empty({room}, DType::bf16, device);
  }
  stream_ = backend::create_stream(device.index());
  ready_ = backend::create_event(device.index());
  done_ = backend::create_event(device.index());
}

DeviceReduction::~DeviceReduction() {
  backend::destroy_event(ready_);
  backend::destroy_event(done_);
  backend::destroy_stream(stream_);
}

void DeviceReduction::watch(Tape& tape, bool last) {
  if (last && options_.overlap) tape.on_final_gradient = [this](Parameter& p) { join(p); };
}

void DeviceReduction::add(AdamW& optimizer, const Tensor& loss, const Tensor& reg_loss) {
  optimizer.add_losses(loss, reg_loss);
}

void DeviceReduction::mark_begin() {
  if (options_.trace == nullptr) return;
  const int device = bucket_.front()->value.device().index();
  options_.trace->buckets.push_back({bucket_bytes_, backend::create_event(device), backend::create_event(device)});
  backend::record(options_.trace->buckets.back().begin, stream_);
}

void DeviceReduction::mark_end() {
  if (options_.trace != nullptr) backend::record(options_.trace->buckets.back().end, stream_);
}

void DeviceReduction::finish(AdamW& optimizer) {
  if (options_.trace != nullptr) {
    options_.trace->backward_end = backend::create_event(plan_.parameters().front()->value.device().index());
    backend::record(options_.trace->backward_end, nullptr);
  }
  for (Parameter* p : plan_.parameters()) {
    require<ShapeError>(p->has_gradient, "step: parameter {} has no gradient", p->name);
    if (!joined_.contains(p)) join(*p);
  }
  send_bucket();
  joined_.clear();
  backend::record(done_, stream_);
  backend::follow(nullptr, done_);
  collectives_.sum(optimizer.running_losses(), 2, DType::f64, nullptr);
}

void DeviceReduction::join(Parameter& parameter) {
  joined_.insert(&parameter);
  bucket_.push_back(&parameter);
  bucket_bytes_ += parameter.gradient.bytes();
  if (bucket_bytes_ >= options_.bucket_bytes) send_bucket();
}

void DeviceReduction::send_bucket() {
  if (bucket_.empty()) return;
  backend::record(ready_, nullptr);
  backend::follow(stream_, ready_);
  const bool narrow = narrow_.defined();
  if (narrow) narrow_bucket();
  mark_begin();
  collectives_.begin_group();
  int64_t begin = 0;
  for (Parameter* p : bucket_) {
    narrow ? sum_elements(*p, address_of(narrow_, begin), DType::bf16)
           : sum_elements(*p, p->gradient.raw(), p->gradient.dtype());
    begin += p->gradient.size();
  }
  collectives_.end_group();
  mark_end();
  if (narrow) widen_bucket();
  bucket_.clear();
  bucket_bytes_ = 0;
}

void DeviceReduction::sum_elements(Parameter& parameter, void* data, DType type) {
  if (!options_.sharded) return collectives_.sum(data, parameter.gradient.size(), type, stream_);
  for (int owner = 0; owner < plan_.ranks(); ++owner) {
    for (const ParameterRange& range : plan_.ranges(owner)) {
      if (range.parameter != &parameter) continue;
      collectives_.sum_to(owner, static_cast<char*>(data) + static_cast<size_t>(range.begin) * size_of(type),
                          range.size, type, stream_);
    }
  }
}

void DeviceReduction::narrow_bucket() {
  int64_t begin = 0;
  for (Parameter* p : bucket_) {
    on_device(p->gradient.device(), [&](auto tag) {
      kernels::cast<float, BFloat16>(tag, Launch{.stream = stream_}, p->gradient.size(), p->gradient.data<float>(),
                                     narrow_.data<BFloat16>() + begin, Mode::overwrite);
    });
    begin += p->gradient.size();
  }
}

void DeviceReduction::widen_bucket() {
  int64_t begin = 0;
  for (Parameter* p : bucket_) {
    on_device(p->gradient.device(), [&](auto tag) {
      kernels::cast<BFloat16, float>(tag, Launch{.stream = stream_}, p->gradient.size(),
                                     narrow_.data<BFloat16>() + begin, p->gradient.data<float>(), Mode::overwrite);
    });
    begin += p->gradient.size();
  }
}

void DeviceReduction::sum_norm(const double*, double* squared_norm) {
  collectives_.sum(squared_norm, 1, DType::f64, nullptr);
}

template <class F>
void DeviceReduction::spread(F&& tensor_of) {
  collectives_.begin_group();
  for (int owner = 0; owner < plan_.ranks(); ++owner) {
    for (const ParameterRange& range : plan_.ranges(owner)) {
      const Tensor& tensor = tensor_of(*range.parameter);
      if (!tensor.defined()) continue;
      collectives_.broadcast(owner, address_of(tensor, range.begin),
                             static_cast<size_t>(range.size) * size_of(tensor.dtype()), nullptr);
    }
  }
  collectives_.end_group();
}

void DeviceReduction::share_values(Values what) {
  const bool all = what == Values::all;
  if (all) spread([](Parameter& p) -> const Tensor& { return p.value; });
  spread([all](Parameter& p) -> const Tensor& { return all ? p.narrow : p.operand(); });
}

void DeviceReduction::collect(Parameter& parameter, Tensor& whole) {
  collectives_.begin_group();
  for (int owner = 0; owner < plan_.ranks(); ++owner) {
    for (const ParameterRange& range : plan_.ranges(owner)) {
      if (range.parameter != &parameter) continue;
      collectives_.broadcast(owner, address_of(whole, range.begin),
                             static_cast<size_t>(range.size) * size_of(whole.dtype()), nullptr);
    }
  }
  collectives_.end_group();
}

}  // namespace moeut
