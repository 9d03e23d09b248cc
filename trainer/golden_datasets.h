// Datasets of a golden file as tensors, refused where their shape, type or values are not what the format says.
#pragma once

#include <string>
#include <vector>

#include "core/tensor.h"
#include "data/hdf5_file.h"

namespace moeut {

/// Every function throws IoError naming the file and the object.
class GoldenDatasets {
 public:
  explicit GoldenDatasets(const std::filesystem::path& path) : file_(path) {}

  const std::filesystem::path& path() const { return file_.path(); }
  bool exists(const std::string& name) const { return file_.exists(name); }
  /// Names, relative to the group, of its datasets; none if there is no such group.
  std::vector<std::string> list(const std::string& group) const { return file_.list(group); }

  std::string text(const std::string& attribute) const { return file_.string_attribute(attribute); }
  /// An attribute that is 0 or 1.
  bool flag(const std::string& attribute) const;

  /// The dataset's extents, `rank` of them, none 0.
  Shape shape(const std::string& name, int rank) const;
  void require_shape(const std::string& name, const Shape& found, const Shape& expected) const;
  /// f64 of the expected shape.
  Tensor floats(const std::string& name, const Shape& expected) const;
  double scalar(const std::string& name) const;
  /// i32 of any shape of this rank; all in [0, bound).
  Tensor ids(const std::string& name, int rank, int64_t bound) const;
  /// u8, 1 where the file has anything but 0; of one of the shapes, whose ranks differ.
  Tensor mask(const std::string& name, const std::vector<Shape>& allowed) const;

 private:
  Hdf5File file_;
};

}  // namespace moeut
