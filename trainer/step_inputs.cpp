#include "trainer/step_inputs.h"

#include <algorithm>

#include "core/check.h"

namespace moeut {
namespace {

/// A view for reading.
Tensor view_of(const std::vector<int32_t>& ids, const Shape& shape) {
  return Tensor::view_of(const_cast<int32_t*>(ids.data()), shape, DType::i32);
}

}  // namespace

StepForm StepForm::of(const Batch& batch, int64_t micro_batch_size, int64_t whole_sequences) {
  return {batch.sequences, batch.seq_len,
          whole_sequences, micro_batch_size > 0 ? std::min(micro_batch_size, batch.sequences) : batch.sequences,
          batch.padded,    !batch.document_starts.empty()};
}

StepInputs::StepInputs(const StepForm& form, Device device, DType wide)
    : form_(form),
      tokens_(Tensor::empty({form.sequences, form.seq_len}, DType::i32, device)),
      targets_(Tensor::empty(tokens_.shape(), DType::i32, device)),
      rng_states_(Tensor::empty({form.micro_batches(), 2}, DType::u64, device)) {
  if (form.document_mask) document_starts_ = Tensor::empty(tokens_.shape(), DType::i32, device);
  if (form.padded) per_target_ = Tensor::empty({1}, wide, device);
}

void StepInputs::write(const Batch& batch, const WholeBatch& whole, uint64_t seed) {
  require<ShapeError>(batch.sequences == form_.sequences && batch.seq_len == form_.seq_len,
                      "step: a batch of {} sequences of {} tokens where there is room for {} of {}", batch.sequences,
                      batch.seq_len, form_.sequences, form_.seq_len);
  require<ShapeError>(StepForm::of(batch, form_.micro_batch_size, whole.sequences) == form_,
                      "step: a batch {} padding and {} document mask where another form was expected",
                      batch.padded ? "with" : "without", batch.document_starts.empty() ? "no" : "a");
  tokens_.copy_from(view_of(batch.tokens, tokens_.shape()));
  targets_.copy_from(view_of(batch.targets, targets_.shape()));
  std::vector<uint64_t> states;
  for (int64_t first = 0; first < form_.sequences; first += form_.micro_batch_size) {
    states.push_back(seed);
    states.push_back(batch.first_sample + static_cast<uint64_t>(first));
  }
  rng_states_.copy_from(Tensor::from(states, rng_states_.shape()));
  if (form_.document_mask) document_starts_.copy_from(view_of(batch.document_starts, document_starts_.shape()));
  if (form_.padded) write_per_target(whole.targets);
}

void StepInputs::write_per_target(int64_t targets) {
  require<ShapeError>(targets > 0, "step: a batch without a single target");
  const double value = 1.0 / static_cast<double>(targets);
  per_target_.copy_from(per_target_.dtype() == DType::f64
                            ? Tensor::from<double>({value}, {1})
                            : Tensor::from<float>(std::vector<float>{static_cast<float>(value)}, {1}));
}

StepInputs::MicroBatch StepInputs::micro_batch(int64_t index) const {
  const int64_t first = index * form_.micro_batch_size;
  const int64_t count = std::min(form_.micro_batch_size, form_.sequences - first);
  return {tokens_.slice(first, count), targets_.slice(first, count), rng_states_.slice(index, 1),
          form_.document_mask ? document_starts_.slice(first, count) : Tensor()};
}

AttentionMask attention_mask(const Tensor& document_starts) {
  return {.first_key = document_starts, .causal = true};
}

Tensor ids_on(Device device, const std::vector<int32_t>& ids, int64_t sequences, int64_t seq_len) {
  return view_of(ids, {sequences, seq_len}).to(device);
}

}  // namespace moeut
