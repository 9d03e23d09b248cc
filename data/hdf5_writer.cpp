// Writing HDF5 files.
#include <algorithm>
#include <utility>

#include "core/check.h"
#include "data/hdf5_file.h"
#include "data/hdf5_library.h"

namespace moeut {
namespace {

using namespace hdf5;

hid_t disk_type(Hdf5Type type) {
  switch (type) {
    case Hdf5Type::kUint8:
      return H5T_STD_U8LE;
    case Hdf5Type::kUint16:
      return H5T_STD_U16LE;
    case Hdf5Type::kUint32:
      return H5T_STD_U32LE;
    case Hdf5Type::kUint64:
      return H5T_STD_U64LE;
    case Hdf5Type::kInt32:
      return H5T_STD_I32LE;
    case Hdf5Type::kInt64:
      return H5T_STD_I64LE;
    case Hdf5Type::kFloat32:
      return H5T_IEEE_F32LE;
    case Hdf5Type::kFloat64:
      return H5T_IEEE_F64LE;
    default:
      throw IoError(fmt::format("Hdf5Writer does not write elements of type {}", hdf5_type_name(type)));
  }
}

/// For after a call that writes: HDF5's reason is the last one's, so it is asked for only when that has failed.
void require_written(bool written, const std::string& what, const std::filesystem::path& path) {
  if (!written)
    throw IoError(fmt::format("cannot write {} to '{}' (HDF5: {}); is the disk full?", what, path.string(), reason()));
}

}  // namespace

Hdf5Writer::Hdf5Writer(const std::filesystem::path& path) : path_(path) {
  quiet_library();
  const Id access(H5Pcreate(H5P_FILE_ACCESS));
  H5Pset_libver_bounds(access.get(), H5F_LIBVER_LATEST, H5F_LIBVER_LATEST);
  H5Pset_alignment(access.get(), 0, 8);  // every object starts at a multiple of 8: ids and offsets can be mapped
  const Id creation(H5Pcreate(H5P_FILE_CREATE));
  H5Pset_obj_track_times(creation.get(), false);
  file_ = H5Fcreate(path.c_str(), H5F_ACC_EXCL, creation.get(), access.get());
  require<IoError>(file_ >= 0,
                   "cannot create '{}' (HDF5: {}); check that the folder is writable, or free some disk space",
                   path.string(), reason());
}

Hdf5Writer::~Hdf5Writer() {
  if (file_ >= 0) H5Fclose(file_);
}

void Hdf5Writer::attribute(const std::string& name, uint64_t value) {
  const Id space(H5Screate(H5S_SCALAR));
  const Id attribute(H5Acreate2(file_, name.c_str(), H5T_STD_U64LE, space.get(), H5P_DEFAULT, H5P_DEFAULT));
  const bool written = attribute.valid() && H5Awrite(attribute.get(), H5T_NATIVE_UINT64, &value) >= 0;
  require_written(written, "attribute '" + name + "'", path_);
}

void Hdf5Writer::attribute(const std::string& name, const std::string& value) {
  const Id space(H5Screate(H5S_SCALAR));
  const Id type(H5Tcopy(H5T_C_S1));
  H5Tset_size(type.get(), std::max<size_t>(value.size(), 1));
  H5Tset_strpad(type.get(), H5T_STR_NULLPAD);
  H5Tset_cset(type.get(), H5T_CSET_UTF8);
  const Id attribute(H5Acreate2(file_, name.c_str(), type.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT));
  const bool written = attribute.valid() && H5Awrite(attribute.get(), type.get(), value.c_str()) >= 0;
  require_written(written, "attribute '" + name + "'", path_);
}

void Hdf5Writer::create_dataset(const std::string& name, Hdf5Type type, uint64_t elements) {
  const hsize_t extent = elements;
  const Id space(H5Screate_simple(1, &extent, nullptr));
  const Id properties(H5Pcreate(H5P_DATASET_CREATE));
  H5Pset_layout(properties.get(), H5D_CONTIGUOUS);
  H5Pset_alloc_time(properties.get(), H5D_ALLOC_TIME_EARLY);
  H5Pset_fill_time(properties.get(), H5D_FILL_TIME_NEVER);
  H5Pset_obj_track_times(properties.get(), false);
  const Id dataset(
      H5Dcreate2(file_, name.c_str(), disk_type(type), space.get(), H5P_DEFAULT, properties.get(), H5P_DEFAULT));
  require_written(dataset.valid(), "dataset '" + name + "'", path_);
}

void Hdf5Writer::write(const std::string& name, uint64_t first, const void* data, uint64_t count) {
  if (count == 0) return;
  const Id dataset(H5Dopen2(file_, name.c_str(), H5P_DEFAULT));
  const Id type(H5Dget_type(dataset.get()));
  const Id in_file(H5Dget_space(dataset.get()));
  const hsize_t start = first, extent = count;
  const Id in_memory(H5Screate_simple(1, &extent, nullptr));
  const bool selected = H5Sselect_hyperslab(in_file.get(), H5S_SELECT_SET, &start, nullptr, &extent, nullptr) >= 0;
  const bool written =
      selected && H5Dwrite(dataset.get(), type.get(), in_memory.get(), in_file.get(), H5P_DEFAULT, data) >= 0 &&
      H5Dflush(dataset.get()) >= 0;  // few bytes wait in a buffer, whose loss the closing of the dataset would hide
  require_written(written, fmt::format("{} elements of '{}'", count, name), path_);
}

void Hdf5Writer::close() {
  require_written(H5Fflush(file_, H5F_SCOPE_LOCAL) >= 0, "the last bytes", path_);
  require_written(H5Fclose(std::exchange(file_, -1)) >= 0, "the last bytes", path_);
}

}  // namespace moeut
