// The extents of a tensor, at most five, outermost first.
#pragma once

#include <array>
#include <cassert>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

namespace moeut {

class Shape {
 public:
  static constexpr int kMaxRank = 5;

  Shape() = default;
  /// Throws ShapeError for a negative extent or more than kMaxRank of them.
  Shape(std::initializer_list<int64_t> extents);
  explicit Shape(const std::vector<int64_t>& extents);

  int rank() const { return rank_; }
  /// Extent `i`; a negative index counts from the end.
  int64_t operator[](int i) const {
    const int k = i < 0 ? i + rank_ : i;
    assert(k >= 0 && k < rank_);
    return extents_[static_cast<size_t>(k)];
  }
  /// Number of elements (1 for rank 0).
  int64_t size() const;
  /// Extent of the last dimension (1 for rank 0) and the number of such rows.
  int64_t row_size() const { return rank_ == 0 ? 1 : (*this)[-1]; }
  int64_t rows() const;

  bool operator==(const Shape&) const = default;
  std::vector<int64_t> extents() const { return {extents_.begin(), extents_.begin() + rank_}; }
  /// "(4, 256, 412)", or with names, one a dimension: str("B T D") = "(B=4, T=256, D=412)".
  std::string str(const char* names = "") const;

 private:
  std::array<int64_t, kMaxRank> extents_{};
  int rank_ = 0;
};

}  // namespace moeut
