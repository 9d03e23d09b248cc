#include "trainer/gradient_sum.h"

#include <algorithm>
#include <array>

#include "autograd/op.h"
#include "kernels/cpu/parallel.h"
#include "kernels/exact_sum.h"

namespace moeut {
namespace {

constexpr int64_t kChunk = GradientSum::kChunk;
using Chunk = std::array<double, kChunk>;

/// f(chunk, begin, elements of it) for all chunks of `size` elements, in parallel.
template <class F>
void for_each_chunk(int64_t size, F&& f) {
  kernels::parallel_blocks(size, kChunk, [&](int64_t begin, int64_t end) { f(begin / kChunk, begin, end - begin); });
}

void add_to_rest(const double* error, int64_t n, std::unique_ptr<double[]>& rest) {
  if (!rest) rest = std::make_unique<double[]>(static_cast<size_t>(kChunk));
  for (int64_t i = 0; i < n; ++i) rest[static_cast<size_t>(i)] += error[i];
}

}  // namespace

GradientSum::GradientSum(const Tensor& like)
    : high_(Tensor::empty(like.shape(), DType::f64, like.device())),
      rests_(static_cast<size_t>((like.size() + kChunk - 1) / kChunk)) {}

void GradientSum::set(const Tensor& gradient) {
  for (auto& rest : rests_) rest.reset();
  if (high_.device().is_meta()) return;
  on_floating(gradient.dtype(), [&]<class T>() {
    const T* x = gradient.data<T>();
    double* high = high_.data<double>();
    for_each_chunk(gradient.size(),
                   [&](int64_t, int64_t begin, int64_t n) { std::copy_n(x + begin, n, high + begin); });
  });
}

void GradientSum::add(const Tensor& gradient) {
  if (high_.device().is_meta()) return;
  on_floating(gradient.dtype(), [&]<class T>() {
    const T* x = gradient.data<T>();
    double* high = high_.data<double>();
    for_each_chunk(gradient.size(), [&](int64_t chunk, int64_t begin, int64_t n) {
      Chunk error;
      if (kernels::add_exactly(Cpu{}, n, x + begin, high + begin, error.data()))
        add_to_rest(error.data(), n, rests_[static_cast<size_t>(chunk)]);
    });
  });
}

void GradientSum::round_into(Tensor& gradient) const {
  if (high_.device().is_meta()) return;
  on_floating(gradient.dtype(), [&]<class T>() {
    for_each_chunk(gradient.size(), [&](int64_t chunk, int64_t begin, int64_t n) {
      kernels::round_sums(Cpu{}, n, high_.data<double>() + begin, rests_[static_cast<size_t>(chunk)].get(),
                          gradient.data<T>() + begin);
    });
  });
}

GradientPart GradientSum::part(int64_t begin, int64_t size) const {
  GradientPart part{.values = high_.data<double>() + begin, .type = DType::f64};
  for (int64_t chunk = begin / kChunk; chunk * kChunk < begin + size; ++chunk)
    part.rests.push_back(rests_[static_cast<size_t>(chunk)].get());
  return part;
}

namespace {

/// A chunk of a sum that is being made.
struct Accumulator {
  Chunk high{}, rest{};
  bool has_rest = false;

  void add(const GradientPart& part, int64_t chunk, int64_t begin, int64_t n) {
    Chunk error;
    const bool inexact = part.type == DType::f32
                             ? add_values(static_cast<const float*>(part.values) + begin, n, error)
                             : add_values(static_cast<const double*>(part.values) + begin, n, error);
    if (inexact) add_rest(error.data(), n);
    const double* beyond = part.rests.empty() ? nullptr : part.rests[static_cast<size_t>(chunk)];
    if (beyond != nullptr) add_rest(beyond, n);
  }

 private:
  template <class T>
  bool add_values(const T* x, int64_t n, Chunk& error) {
    return kernels::add_exactly(Cpu{}, n, x, high.data(), error.data());
  }
  void add_rest(const double* x, int64_t n) {
    has_rest = true;
    for (int64_t i = 0; i < n; ++i) rest[static_cast<size_t>(i)] += x[i];
  }
};

}  // namespace

template <class T>
void sum_parts(const std::vector<GradientPart>& parts, int64_t size, T* y) {
  for_each_chunk(size, [&](int64_t chunk, int64_t begin, int64_t n) {
    Accumulator sum;
    for (const GradientPart& part : parts) sum.add(part, chunk, begin, n);
    kernels::round_sums(Cpu{}, n, sum.high.data(), sum.has_rest ? sum.rest.data() : nullptr, y + begin);
  });
}
template void sum_parts<float>(const std::vector<GradientPart>&, int64_t, float*);
template void sum_parts<double>(const std::vector<GradientPart>&, int64_t, double*);

}  // namespace moeut
