// Narrow number formats on the CPU: operands are widened to float, the float kernel runs, results are rounded once.
// This is the definition that the CUDA kernels are compared with: operands and results rounded, sums in float.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/tensor.h"
#include "kernels/cpu/parallel.h"

namespace moeut::kernels {

/// Narrow arrays as floats, for the time of one kernel. Outputs are rounded and written back by the destructor.
class Floats {
 public:
  Floats() = default;
  Floats(const Floats&) = delete;
  ~Floats() {
    for (const auto& write : write_backs_) write();
  }

  /// n elements to read; null stays null.
  template <class T>
  const float* in(const T* x, int64_t n) {
    if (x == nullptr) return nullptr;
    float* copy = buffer(n);
    convert(n, x, copy);
    return copy;
  }
  /// n elements to write; `keep`: the kernel reads them, or leaves some of them as they are.
  template <class T>
  float* out(T* y, int64_t n, bool keep) {
    if (y == nullptr) return nullptr;
    float* copy = buffer(n);
    if (keep) convert(n, y, copy);
    write_backs_.push_back([=] { convert(n, copy, y); });
    return copy;
  }
  /// What is wide already.
  float* out(float* y, int64_t, bool) { return y; }

 private:
  float* buffer(int64_t n) {
    buffers_.push_back(Tensor::empty({n}, DType::f32));
    return buffers_.back().data<float>();
  }
  template <class From, class To>
  static void convert(int64_t n, const From* x, To* y) {
    parallel_blocks(n, 16384, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) y[i] = To(Wide<To>(Wide<From>(x[i])));
    });
  }

  std::vector<Tensor> buffers_;
  std::vector<std::function<void()>> write_backs_;
};

/// Elements that rows of `width`, `ld` apart, reach over.
inline int64_t extent(int64_t rows, int64_t width, int64_t ld) {
  return rows > 0 ? (rows - 1) * ld + width : 0;
}

}  // namespace moeut::kernels
