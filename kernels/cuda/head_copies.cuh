// Heads copied into rows that are multiples of 16 bytes and back, for kernels that ask for that.
#pragma once

#include <cstddef>

#include "kernels/attention.h"
#include "kernels/cuda/launch.cuh"

namespace moeut::kernels::cuda {

constexpr int kMostHeadCopies = 5;

/// Tensors (B, T, H, P) of one layout and where they go in another, whose heads may be wider or narrower.
template <class T>
struct HeadCopies {
  AttentionShape source, target;
  int count = 0;
  const T* from[kMostHeadCopies] = {};
  T* to[kMostHeadCopies] = {};
};

/// A warp copies a row of a head, and fills what the target has beyond it with 0. A word is two numbers where every row
/// begins at an even one.
template <class T, class Word>
__global__ void copy_heads_kernel(HeadCopies<T> c) {
  constexpr unsigned kNumbers = sizeof(Word) / sizeof(T);
  const AttentionShape &s = c.source, &t = c.target;
  const auto heads = static_cast<uint32_t>(s.heads), length = static_cast<uint32_t>(s.q_len);
  const auto rows = static_cast<uint32_t>(s.batch) * length * heads;
  const auto there = static_cast<unsigned>(s.head_dim) / kNumbers,
             wanted = static_cast<unsigned>(t.head_dim) / kNumbers;
  for (uint32_t i = static_cast<uint32_t>(first_element() / 32); i < rows;
       i += static_cast<uint32_t>(element_step() / 32)) {
    const int64_t head = i % heads, time = i / heads % length, sequence = i / heads / length;
    const auto* from = reinterpret_cast<const Word*>(c.from[blockIdx.y] + sequence * s.q_batch_stride +
                                                     time * s.q_row_stride + head * s.head_dim);
    auto* to = reinterpret_cast<Word*>(c.to[blockIdx.y] + sequence * t.q_batch_stride + time * t.q_row_stride +
                                       head * t.head_dim);
    for (unsigned w = threadIdx.x % 32; w < wanted; w += 32) to[w] = w < there ? from[w] : Word(0);
  }
}

template <class T>
void copy_heads(const Launch& launch, const HeadCopies<T>& c) {
  constexpr int kThreads = 256;
  const AttentionShape &s = c.source, &t = c.target;
  const auto start = [&](auto kernel) {
    const dim3 grid(grid_for(s.batch * s.q_len * s.heads * 32, kThreads), static_cast<unsigned>(c.count));
    kernel<<<grid, kThreads, 0, stream_of(launch)>>>(c);
    check_launch("attention: copies of heads");
  };
  const bool even = (s.head_dim | s.q_row_stride | s.q_batch_stride | t.head_dim | t.q_row_stride) % 2 == 0;
  if (even) return start(copy_heads_kernel<T, uint32_t>);
  start(copy_heads_kernel<T, uint16_t>);
}

/// The operands of a call in a layout of its own: themselves if that is the one they have, else copies in `room`.
template <class T>
class HeadsLaidOut {
 public:
  HeadsLaidOut(const AttentionShape& given, const AttentionShape& wanted, void* room)
      : in_{.source = given, .target = wanted},
        out_{.source = wanted, .target = given},
        room_(static_cast<std::byte*>(room)) {}

  /// Of one tensor.
  static size_t bytes(const AttentionShape& wanted) {
    return static_cast<size_t>(wanted.batch * wanted.q_batch_stride) * sizeof(T);
  }

  const T* in(const T* given) {
    if (same()) return given;
    in_.from[in_.count] = given;
    return in_.to[in_.count++] = take();
  }
  T* out(T* given) {
    if (same()) return given;
    out_.to[out_.count] = given;
    T* copy = take();
    out_.from[out_.count++] = copy;
    return copy;
  }
  void copy_in(const Launch& launch) const {
    if (!same()) copy_heads(launch, in_);
  }
  void copy_out(const Launch& launch) const {
    if (!same()) copy_heads(launch, out_);
  }

 private:
  bool same() const { return in_.source == in_.target; }
  T* take() {
    std::byte* piece = room_;
    room_ += bytes(in_.target);
    return reinterpret_cast<T*>(piece);
  }

  HeadCopies<T> in_, out_;
  std::byte* room_;
};

}  // namespace moeut::kernels::cuda
