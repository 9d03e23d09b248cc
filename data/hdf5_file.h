// The only door to HDF5: shards and golden files go through it. HDF5 is not built for hostile files, so this wrapper
// offers little: hard links, plain or gzip-chunked datasets, integer and string attributes. A file from elsewhere is
// opened in a child process (data/limited_child.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace moeut {

/// What one element of a dataset is on disk. Enumerations (h5py's bool) count as their integer.
enum class Hdf5Type { kInt8, kInt16, kInt32, kInt64, kUint8, kUint16, kUint32, kUint64, kFloat32, kFloat64, kOther };

const char* hdf5_type_name(Hdf5Type type);

struct Hdf5DatasetInfo {
  std::vector<uint64_t> shape;  ///< empty for a scalar
  Hdf5Type type = Hdf5Type::kOther;
  bool little_endian = false;
  bool filtered = false;
  /// Where the elements lie in the file, if they lie in one piece and unfiltered (what a memory map can use).
  std::optional<uint64_t> file_offset;

  uint64_t elements() const;  ///< product of the shape; throws IoError on overflow
};

/// An HDF5 file open for reading. Objects are named by their path from the root ("params/embedding.weight"); the root
/// itself is "/". Every function throws IoError naming the file and the object. Soft and external links, external
/// storage and virtual datasets are refused wherever they are met. Movable; one thread at a time.
class Hdf5File {
 public:
  explicit Hdf5File(const std::filesystem::path& path);
  Hdf5File(Hdf5File&& other) noexcept;
  Hdf5File& operator=(Hdf5File&&) = delete;
  ~Hdf5File();

  const std::filesystem::path& path() const { return path_; }

  /// Paths, relative to `group`, of all datasets below it, sorted. A group that is not there has none.
  std::vector<std::string> list(const std::string& group = "/") const;
  bool exists(const std::string& name) const;
  Hdf5DatasetInfo info(const std::string& dataset) const;

  /// All elements in row-major order, converted to T (float, double, int32_t, int64_t, uint8_t, uint16_t, uint32_t or
  /// uint64_t). Refused: floating point read as an integer, a value that T cannot hold, chunks that were never written
  /// (HDF5 would return fill values for them), more than 8 GiB.
  template <class T>
  std::vector<T> read(const std::string& dataset) const;

  bool has_attribute(const std::string& name, const std::string& object = "/") const;
  /// A fixed- or variable-length string, without its padding.
  std::string string_attribute(const std::string& name, const std::string& object = "/") const;
  int64_t int_attribute(const std::string& name, const std::string& object = "/") const;
  uint64_t uint_attribute(const std::string& name, const std::string& object = "/") const;

 private:
  std::filesystem::path path_;
  int64_t file_ = -1;
};

/// Writes a new HDF5 file in the newest file format (its metadata carries checksums) and without times, so that equal
/// content gives equal bytes. Datasets are one-dimensional, contiguous and 8-byte aligned; attributes belong to the
/// root and are integers or fixed-length strings. After an exception the file is useless: remove it.
class Hdf5Writer {
 public:
  explicit Hdf5Writer(const std::filesystem::path& path);
  Hdf5Writer(Hdf5Writer&&) = delete;
  ~Hdf5Writer();

  void attribute(const std::string& name, uint64_t value);
  void attribute(const std::string& name, const std::string& value);
  void create_dataset(const std::string& name, Hdf5Type type, uint64_t elements);
  /// Overwrites elements [first, first + count) of a dataset with `data`, which has the dataset's type.
  void write(const std::string& name, uint64_t first, const void* data, uint64_t count);
  /// Closes the file; what the system only reports now is thrown. Syncing is the caller's.
  void close();

 private:
  std::filesystem::path path_;
  int64_t file_ = -1;
};

}  // namespace moeut
