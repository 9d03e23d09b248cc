// What the tensor-core kernels of d-weight share: they walk through the rows of one expert in all parts, a stage of
// kDepth rows at a time, and look up where a stage's rows lie before they are copied.
#pragma once

#include "kernels/cuda/cvmm_tiles.cuh"

namespace moeut::kernels::cuda {

constexpr int kMostWeightParts = 16;  // of one launch

template <class T>
struct WeightParts {
  CvmmWeightPart<T> part[kMostWeightParts];
  int count = 0;
};

/// The rows of one stage: null beyond the expert's last.
template <class T, int kDepth>
struct StageRows {
  const T* a[kDepth];
  const T* b[kDepth];
};

template <class T, int kDepth>
class StageFinder {
 public:
  __device__ StageFinder(const WeightParts<T>& parts, int64_t expert) : parts_(parts), expert_(expert) {}

  /// Looks up the rows of the next stage, if there is one, into rows[its number % 2]; all threads call it.
  __device__ void find(StageRows<T, kDepth> (&rows)[2]) {
    if (part_ >= parts_.count || !next()) return;
    if (threadIdx.x < kDepth) {
      const CvmmWeightPart<T>& p = parts_.part[part_];
      const int64_t place = at_ + threadIdx.x;
      rows[found_ % 2].a[threadIdx.x] = place < end_ ? row_pointer(p.a, p.route, place).data : nullptr;
      rows[found_ % 2].b[threadIdx.x] = place < end_ ? row_pointer(p.b, p.route, place).data : nullptr;
    }
    ++found_;
  }
  __device__ int found() const { return found_; }

 private:
  __device__ bool next() {
    at_ += kDepth;
    while (part_ < 0 || at_ >= end_) {
      if (++part_ >= parts_.count) return false;
      at_ = parts_.part[part_].route.offsets[expert_];
      end_ = parts_.part[part_].route.offsets[expert_ + 1];
    }
    return true;
  }

  const WeightParts<T>& parts_;
  int64_t expert_;
  int part_ = -1, found_ = 0;
  int64_t at_ = 0, end_ = 0;
};

/// Two neighbours of dW.
__device__ inline void store_two(float* to, float x, float y, Mode mode) {
  auto* place = reinterpret_cast<float2*>(to);
  if (mode == Mode::accumulate) {
    x += place->x;
    y += place->y;
  }
  *place = {x, y};
}

/// Calls launch(parts, mode) for at most kMostWeightParts parts after another.
template <class T, class F>
void in_launches(const CvmmWeightGradient<T>& args, F&& launch) {
  Mode mode = args.mode;
  for (size_t done = 0; done < args.parts.size(); done += kMostWeightParts) {
    WeightParts<T> parts;
    for (size_t i = done; i < args.parts.size() && parts.count < kMostWeightParts; ++i) {
      parts.part[parts.count++] = args.parts[i];
    }
    launch(parts, mode);
    mode = Mode::accumulate;
  }
}

}  // namespace moeut::kernels::cuda
