// Keys and values of what was read already, for each of the L layer applications (not of the G parameter sets).
#pragma once

#include <cstdint>
#include <vector>

#include "autograd/tape.h"

namespace moeut {

/// Keys, already rotated by their absolute positions, and values of one application.
class LayerCache {
 public:
  /// Keys and values of the past and the chunk: the first `length` times of each count.
  struct Extended {
    Variable k, v;
    int64_t length = 0;
  };

  int64_t length() const { return length_; }
  /// Appends a chunk (B, T, H·P). While the tape records, the gradient flows to the chunk's keys and values, not to the
  /// past's. Throws ShapeError if batch, width, type or device are not the past's.
  Extended extend(Tape& tape, const Variable& k, const Variable& v);

 private:
  void reserve(const Tensor& like, int64_t length);

  Tensor k_, v_;  // (B, capacity, H·P)
  int64_t length_ = 0;
};

class KvCache {
 public:
  explicit KvCache(int64_t applications) : layers_(static_cast<size_t>(applications)) {}
  /// Tokens of each sequence that are in the cache.
  int64_t length() const { return layers_.empty() ? 0 : layers_.front().length(); }
  int64_t applications() const { return static_cast<int64_t>(layers_.size()); }
  LayerCache& layer(int64_t application) { return layers_[static_cast<size_t>(application)]; }

 private:
  std::vector<LayerCache> layers_;
};

}  // namespace moeut
