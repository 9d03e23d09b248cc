#include "trainer/golden_datasets.h"

#include <algorithm>

#include "core/check.h"

namespace moeut {

bool GoldenDatasets::flag(const std::string& attribute) const {
  const int64_t value = file_.int_attribute(attribute);
  require<IoError>(value == 0 || value == 1, "'{}': attribute '{}' is {}, should be 0 or 1", path().string(), attribute,
                   value);
  return value == 1;
}

Shape GoldenDatasets::shape(const std::string& name, int rank) const {
  const Hdf5DatasetInfo info = file_.info(name);
  const bool right = info.shape.size() == static_cast<size_t>(rank) &&
                     std::ranges::all_of(info.shape, [](uint64_t n) { return n >= 1 && n <= INT32_MAX; });
  require<IoError>(right, "'{}': dataset '{}' is ({}), should have {} extents of at least 1", path().string(), name,
                   fmt::join(info.shape, ", "), rank);
  return Shape(std::vector<int64_t>(info.shape.begin(), info.shape.end()));
}

void GoldenDatasets::require_shape(const std::string& name, const Shape& found, const Shape& expected) const {
  require<IoError>(found == expected, "'{}': dataset '{}' is {}, should be {}", path().string(), name, found.str(),
                   expected.str());
}

Tensor GoldenDatasets::floats(const std::string& name, const Shape& expected) const {
  require_shape(name, shape(name, expected.rank()), expected);
  return Tensor::from(file_.read<double>(name), expected);
}

double GoldenDatasets::scalar(const std::string& name) const {
  const uint64_t elements = file_.info(name).elements();
  require<IoError>(elements == 1, "'{}': dataset '{}' has {} elements, should be one number", path().string(), name,
                   elements);
  return file_.read<double>(name)[0];
}

Tensor GoldenDatasets::ids(const std::string& name, int rank, int64_t bound) const {
  const Shape extents = shape(name, rank);
  const std::vector<int32_t> values = file_.read<int32_t>(name);
  const auto outside = std::ranges::find_if(values, [&](int32_t id) { return id < 0 || id >= bound; });
  require<IoError>(outside == values.end(), "'{}': dataset '{}' holds the id {}, outside a vocabulary of {}",
                   path().string(), name, outside == values.end() ? 0 : *outside, bound);
  return Tensor::from(values, extents);
}

Tensor GoldenDatasets::mask(const std::string& name, const std::vector<Shape>& allowed) const {
  const size_t rank = file_.info(name).shape.size();
  const auto of_rank = [&](const Shape& s) { return static_cast<size_t>(s.rank()) == rank; };
  const auto found = std::ranges::find_if(allowed, of_rank);
  const Shape& expected = found == allowed.end() ? allowed.front() : *found;
  const Shape extents = shape(name, expected.rank());
  require_shape(name, extents, expected);
  std::vector<uint8_t> values = file_.read<uint8_t>(name);
  for (uint8_t& value : values) value = value != 0;
  return Tensor::from(values, extents);
}

}  // namespace moeut
