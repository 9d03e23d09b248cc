#include "layers/kv_cache.h"

#include <algorithm>

#include "autograd/ops/append_time.h"
#include "core/check.h"

namespace moeut {

namespace {

Variable with_past(Tape& tape, const Tensor& storage, int64_t length, const Variable& chunk) {
  if (length == 0) return chunk;
  Tensor past = Tensor::empty({storage.shape()[0], length, storage.shape()[2]}, storage.dtype(), storage.device());
  for (int64_t b = 0; b < past.shape()[0]; ++b)
    past.slice(b, 1).copy_from(storage.slice(b, 1)
                                   .reshape({storage.shape()[1], storage.shape()[2]})
                                   .slice(0, length)
                                   .reshape(past.slice(b, 1).shape()));
  return ops::append_time(tape, past, chunk);
}

}  // namespace

void LayerCache::reserve(const Tensor& like, int64_t length) {
  const Shape& s = like.shape();
  if (k_.defined() && k_.shape()[1] >= length) return;
  const int64_t capacity = std::max<int64_t>(length, k_.defined() ? 2 * k_.shape()[1] : 0);
  for (Tensor* t : {&k_, &v_}) {
    Tensor grown = Tensor::empty({s[0], capacity, s[2]}, like.dtype(), like.device());
    if (t->defined()) ops::copy_time(*t, grown, 0);
    *t = grown;
  }
}

LayerCache::Extended LayerCache::extend(Tape& tape, const Variable& k, const Variable& v) {
  const Shape& s = k.shape();
  require<ShapeError>(s.rank() == 3 && v.shape() == s, "kv_cache: keys {} and values {} do not fit", s.str("B T HP"),
                      v.shape().str("B T HP"));
  require<ShapeError>(!k_.defined() || (k_.shape()[0] == s[0] && k_.shape()[2] == s[2] && k_.dtype() == k.dtype() &&
                                        k_.device() == k.device()),
                      "kv_cache: a chunk {} does not continue a cache {}", k.value().str(), k_.str());
  Extended extended;
  if (tape.recording()) extended = {with_past(tape, k_, length_, k), with_past(tape, v_, length_, v), length_ + s[1]};
  reserve(k.value(), length_ + s[1]);
  ops::copy_time(k.value(), k_, length_);
  ops::copy_time(v.value(), v_, length_);
  length_ += s[1];
  if (!tape.recording()) extended = {Variable(k_), Variable(v_), length_};
  return extended;
}

}  // namespace moeut
