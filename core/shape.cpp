#include "core/shape.h"

#include <sstream>

#include "core/check.h"

namespace moeut {

Shape::Shape(std::initializer_list<int64_t> extents) : Shape(std::vector<int64_t>(extents)) {}

Shape::Shape(const std::vector<int64_t>& extents) : rank_(static_cast<int>(extents.size())) {
  require<ShapeError>(rank_ <= kMaxRank, "shape: {} dimensions, at most {} are possible", rank_, kMaxRank);
  for (size_t i = 0; i < extents.size(); ++i) {
    require<ShapeError>(extents[i] >= 0, "shape: dimension {} is negative ({})", i, extents[i]);
    extents_[i] = extents[i];
  }
}

int64_t Shape::size() const {
  int64_t n = 1;
  for (int i = 0; i < rank_; ++i) n *= (*this)[i];
  return n;
}

int64_t Shape::rows() const {
  int64_t n = 1;
  for (int i = 0; i + 1 < rank_; ++i) n *= (*this)[i];
  return n;
}

std::string Shape::str(const char* names) const {
  std::istringstream words(names);
  std::string text = "(", word;
  for (int i = 0; i < rank_; ++i) {
    if (i > 0) text += ", ";
    if (words >> word) text += word + "=";
    text += std::to_string((*this)[i]);
  }
  return text + ")";
}

}  // namespace moeut
