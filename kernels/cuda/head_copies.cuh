// Heads copied into rows that are multiples of 16 bytes and back, for kernels that ask for that.
#pragma once

#include <cstddef>

#include "kernels/attention.h"
#include "kernels/cuda/launch.cuh"

namespace moeut::kernels::cuda {

constexpr int kMostHeadCopies = 5;

/// Tensors (B, T, H, P) of one layout and where they go in another. The heads of one of the two are wider: padded to a
/// multiple of 16 bytes, aligned to as much.
template <class T>
struct HeadCopies {
  AttentionShape source, target;
  int count = 0;
  const T* from[kMostHeadCopies] = {};
  T* to[kMostHeadCopies] = {};
};

/// Row number `row` of all (b, t, h).
template <class T>
__device__ inline T* head_row(T* tensor, const AttentionShape& s, uint32_t row) {
  const auto heads = static_cast<uint32_t>(s.heads), length = static_cast<uint32_t>(s.q_len);
  const int64_t head = row % heads, time = row / heads % length, sequence = row / heads / length;
  return tensor + sequence * s.q_batch_stride + time * s.q_row_stride + head * s.head_dim;
}

/// A thread copies 16 bytes of a padded row, in words: of two numbers where every row begins at an even one. Padding is
/// written as 0, and left out on the way back.
template <class T, class Word, bool kPads>
__global__ void copy_heads_kernel(HeadCopies<T> c) {
  constexpr int kWords = 16 / sizeof(Word), kNumbers = sizeof(Word) / sizeof(T);
  const AttentionShape &padded = kPads ? c.target : c.source, &given = kPads ? c.source : c.target;
  const auto chunks = static_cast<uint32_t>(padded.head_dim) / (kWords * kNumbers);
  const auto total = static_cast<uint32_t>(padded.batch * padded.q_len * padded.heads) * chunks;
  for (int64_t i = first_element(); i < total; i += element_step()) {
    const uint32_t row = static_cast<uint32_t>(i) / chunks, chunk = static_cast<uint32_t>(i) % chunks;
    const int words = static_cast<int>(given.head_dim) / kNumbers - static_cast<int>(chunk) * kWords;  // before padding
    const T* from = head_row(c.from[blockIdx.y], c.source, row) + chunk * (kWords * kNumbers);
    T* to = head_row(c.to[blockIdx.y], c.target, row) + chunk * (kWords * kNumbers);
    alignas(16) Word x[kWords];
    if constexpr (kPads) {
#pragma unroll
      for (int w = 0; w < kWords; ++w) x[w] = w < words ? reinterpret_cast<const Word*>(from)[w] : Word(0);
      *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(x);
    } else {
      *reinterpret_cast<uint4*>(x) = *reinterpret_cast<const uint4*>(from);
#pragma unroll
      for (int w = 0; w < kWords; ++w) {
        if (w < words) reinterpret_cast<Word*>(to)[w] = x[w];
      }
    }
  }
}

template <bool kPads, class T>
void copy_heads(const Launch& launch, const HeadCopies<T>& c) {
  constexpr int kThreads = 256;
  const AttentionShape &padded = kPads ? c.target : c.source, &given = kPads ? c.source : c.target;
  const auto start = [&](auto kernel) {
    const int64_t pieces = padded.batch * padded.q_len * padded.heads * padded.head_dim / 8;
    const dim3 grid(grid_for(pieces, kThreads), static_cast<unsigned>(c.count));
    kernel<<<grid, kThreads, 0, stream_of(launch)>>>(c);
    check_launch("attention: copies of heads");
  };
  const bool even = (given.head_dim | given.q_row_stride | given.q_batch_stride) % 2 == 0;
  if (even) return start(copy_heads_kernel<T, uint32_t, kPads>);
  start(copy_heads_kernel<T, uint16_t, kPads>);
}

/// The operands of a call in a layout of its own: themselves if that is the one they have, else padded copies in
/// `room`.
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
    T* copy = take();
    out_.from[out_.count] = copy;
    out_.to[out_.count++] = given;
    return copy;
  }
  void copy_in(const Launch& launch) const {
    if (!same()) copy_heads<true>(launch, in_);
  }
  void copy_out(const Launch& launch) const {
    if (!same()) copy_heads<false>(launch, out_);
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
