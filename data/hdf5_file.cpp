// Reading HDF5 files.
#include "data/hdf5_file.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "core/check.h"
#include "data/hdf5_library.h"

namespace moeut {
namespace {

using namespace hdf5;

constexpr uint64_t kMaxReadBytes = uint64_t{8} << 30;
constexpr uint64_t kMaxAttributeBytes = uint64_t{64} << 20;

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& what) {
  throw IoError(fmt::format("'{}': {} (HDF5: {}); the file is damaged or of another kind: write or copy it again",
                            path.string(), what, reason()));
}

Id checked(hid_t id, const std::filesystem::path& path, const std::string& what) {
  if (id < 0) fail(path, what);
  return Id(id);
}

Hdf5Type type_of(hid_t type) {
  const size_t size = H5Tget_size(type);
  if (H5Tget_class(type) == H5T_FLOAT) {
    if (H5Tequal(type, H5T_IEEE_F32LE) > 0 || H5Tequal(type, H5T_IEEE_F32BE) > 0) return Hdf5Type::kFloat32;
    if (H5Tequal(type, H5T_IEEE_F64LE) > 0 || H5Tequal(type, H5T_IEEE_F64BE) > 0) return Hdf5Type::kFloat64;
    return Hdf5Type::kOther;
  }
  if (H5Tget_class(type) != H5T_INTEGER || H5Tget_precision(type) != 8 * size) return Hdf5Type::kOther;
  const bool is_signed = H5Tget_sign(type) == H5T_SGN_2;
  switch (size) {
    case 1:
      return is_signed ? Hdf5Type::kInt8 : Hdf5Type::kUint8;
    case 2:
      return is_signed ? Hdf5Type::kInt16 : Hdf5Type::kUint16;
    case 4:
      return is_signed ? Hdf5Type::kInt32 : Hdf5Type::kUint32;
    case 8:
      return is_signed ? Hdf5Type::kInt64 : Hdf5Type::kUint64;
    default:
      return Hdf5Type::kOther;
  }
}

template <class T>
hid_t memory_type() {
  if constexpr (std::is_same_v<T, float>) return H5T_NATIVE_FLOAT;
  if constexpr (std::is_same_v<T, double>) return H5T_NATIVE_DOUBLE;
  if constexpr (std::is_same_v<T, int32_t>) return H5T_NATIVE_INT32;
  if constexpr (std::is_same_v<T, int64_t>) return H5T_NATIVE_INT64;
  if constexpr (std::is_same_v<T, uint8_t>) return H5T_NATIVE_UINT8;
  if constexpr (std::is_same_v<T, uint16_t>) return H5T_NATIVE_UINT16;
  if constexpr (std::is_same_v<T, uint32_t>) return H5T_NATIVE_UINT32;
  if constexpr (std::is_same_v<T, uint64_t>) return H5T_NATIVE_UINT64;
}

bool is_float(Hdf5Type type) {
  return type == Hdf5Type::kFloat32 || type == Hdf5Type::kFloat64;
}
bool is_unsigned(Hdf5Type type) {
  return type == Hdf5Type::kUint8 || type == Hdf5Type::kUint16 || type == Hdf5Type::kUint32 ||
         type == Hdf5Type::kUint64;
}

/// Walks the path link by link, so that no soft or external link is ever followed.
enum class LinkState { kAbsent, kHard };
LinkState walk_links(hid_t file, const std::filesystem::path& path, const std::string& name) {
  for (size_t end = 0; end != std::string::npos;) {
    end = name.find('/', end == 0 ? 0 : end + 1);
    const std::string prefix = name.substr(0, end);
    if (prefix.empty()) continue;
    if (H5Lexists(file, prefix.c_str(), H5P_DEFAULT) <= 0) return LinkState::kAbsent;
    H5L_info_t link;
    if (H5Lget_info(file, prefix.c_str(), &link, H5P_DEFAULT) < 0) fail(path, "cannot read link '" + prefix + "'");
    require<IoError>(link.type == H5L_TYPE_HARD,
                     "'{}': '{}' is a soft or external link, which is not followed; store the dataset itself there",
                     path.string(), prefix);
  }
  return LinkState::kHard;
}

Id open_object(hid_t file, const std::filesystem::path& path, const std::string& name) {
  if (name != "/" && walk_links(file, path, name) == LinkState::kAbsent)
    throw IoError(fmt::format("'{}' has no object '{}'; is it the right kind of file?", path.string(), name));
  return checked(H5Oopen(file, name.c_str(), H5P_DEFAULT), path, "cannot open '" + name + "'");
}

Id open_dataset(hid_t file, const std::filesystem::path& path, const std::string& name) {
  Id object = open_object(file, path, name);
  require<IoError>(H5Iget_type(object.get()) == H5I_DATASET, "'{}': '{}' is not a dataset", path.string(), name);
  return object;
}

/// True if all filters are of the three that this project accepts in files of others (gzip, shuffle, Fletcher-32).
bool plain_filters(hid_t properties, int count) {
  for (int i = 0; i < count; ++i) {
    unsigned flags = 0;
    size_t values = 0;
    const H5Z_filter_t filter =
        H5Pget_filter2(properties, static_cast<unsigned>(i), &flags, &values, nullptr, 0, nullptr, nullptr);
    if (filter != H5Z_FILTER_DEFLATE && filter != H5Z_FILTER_SHUFFLE && filter != H5Z_FILTER_FLETCHER32) return false;
  }
  return true;
}

std::vector<uint64_t> shape_of(hid_t space, const std::filesystem::path& path, const std::string& name) {
  require<IoError>(H5Sget_simple_extent_type(space) != H5S_NULL, "'{}': dataset '{}' has no elements", path.string(),
                   name);
  const int rank = H5Sget_simple_extent_ndims(space);
  if (rank < 0) fail(path, "cannot read the shape of '" + name + "'");
  std::vector<hsize_t> extent(static_cast<size_t>(rank));
  if (rank > 0 && H5Sget_simple_extent_dims(space, extent.data(), nullptr) < 0)
    fail(path, "cannot read the shape of '" + name + "'");
  return {extent.begin(), extent.end()};
}

/// Refuses a dataset of which a part was never written.
void require_allocated(hid_t dataset, hid_t properties, const Hdf5DatasetInfo& info, size_t item_size,
                       const std::filesystem::path& path, const std::string& name) {
  if (info.elements() == 0) return;
  bool complete = true;
  if (H5Pget_layout(properties) == H5D_CHUNKED) {
    std::vector<hsize_t> chunk(info.shape.size());
    if (H5Pget_chunk(properties, static_cast<int>(chunk.size()), chunk.data()) < 0) fail(path, "bad chunks of " + name);
    double expected = 1;  // a double cannot overflow, and is exact for any number of chunks that fits a file
    for (size_t i = 0; i < chunk.size(); ++i)
      expected *= static_cast<double>(info.shape[i] / chunk[i] + (info.shape[i] % chunk[i] != 0));
    hsize_t chunks = 0;
    const Id space = checked(H5Dget_space(dataset), path, "cannot open '" + name + "'");
    if (H5Dget_num_chunks(dataset, space.get(), &chunks) < 0) fail(path, "cannot count the chunks of '" + name + "'");
    complete = static_cast<double>(chunks) == expected;
  } else {
    complete = H5Dget_storage_size(dataset) / item_size >= info.elements();
  }
  require<IoError>(complete,
                   "'{}': dataset '{}' is incomplete (a part was never written); write or copy the file again",
                   path.string(), name);
}

Hdf5DatasetInfo describe(hid_t dataset, const std::filesystem::path& path, const std::string& name) {
  const Id space = checked(H5Dget_space(dataset), path, "cannot open '" + name + "'");
  const Id stored = checked(H5Dget_type(dataset), path, "cannot read the type of '" + name + "'");
  const Id properties = checked(H5Dget_create_plist(dataset), path, "cannot read the layout of '" + name + "'");
  const H5D_layout_t layout = H5Pget_layout(properties.get());
  require<IoError>(
      layout == H5D_CONTIGUOUS || layout == H5D_CHUNKED || layout == H5D_COMPACT,
      "'{}': dataset '{}' is virtual (its elements lie in other files), which is refused; copy the elements "
      "into this file",
      path.string(), name);
  require<IoError>(
      layout != H5D_CONTIGUOUS || H5Pget_external_count(properties.get()) == 0,
      "'{}': dataset '{}' keeps its elements in other files (external storage), which is refused; copy them "
      "into this file",
      path.string(), name);
  const int filters = H5Pget_nfilters(properties.get());
  require<IoError>(
      filters >= 0 && plain_filters(properties.get(), filters),
      "'{}': dataset '{}' is stored through a filter that is refused; rewrite it with gzip or uncompressed",
      path.string(), name);

  Hdf5DatasetInfo info;
  info.shape = shape_of(space.get(), path, name);
  const bool is_enum = H5Tget_class(stored.get()) == H5T_ENUM;
  const Id base(is_enum ? H5Tget_super(stored.get()) : H5Tcopy(stored.get()));
  info.type = type_of(base.get());
  info.little_endian = H5Tget_order(base.get()) == H5T_ORDER_LE;
  info.filtered = filters > 0;
  const haddr_t offset = layout == H5D_CONTIGUOUS ? H5Dget_offset(dataset) : HADDR_UNDEF;
  if (offset != HADDR_UNDEF) info.file_offset = offset;
  H5Eclear2(H5E_DEFAULT);
  require_allocated(dataset, properties.get(), info, H5Tget_size(stored.get()), path, name);
  return info;
}

template <class T>
std::vector<T> read_as(hid_t dataset, uint64_t elements, const std::filesystem::path& path, const std::string& name) {
  require<IoError>(elements <= kMaxReadBytes / sizeof(T),
                   "'{}': dataset '{}' has {} elements, more than is read at once", path.string(), name, elements);
  std::vector<T> values(elements);
  if (elements > 0 && H5Dread(dataset, memory_type<T>(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) < 0)
    fail(path, "cannot read dataset '" + name + "'");
  return values;
}

/// Reads in the widest type of the same signedness and refuses what T cannot hold; HDF5 itself would clip.
template <class T, class Wide>
std::vector<T> read_narrowed(hid_t dataset, uint64_t elements, const std::filesystem::path& path,
                             const std::string& name) {
  if constexpr (std::is_same_v<T, Wide>) {
    return read_as<T>(dataset, elements, path, name);
  } else {
    const std::vector<Wide> wide = read_as<Wide>(dataset, elements, path, name);
    std::vector<T> values(wide.size());
    for (size_t i = 0; i < wide.size(); ++i) {
      require<IoError>(std::in_range<T>(wide[i]), "'{}': element {} of '{}' is {}, outside the range expected here",
                       path.string(), i, name, wide[i]);
      values[i] = static_cast<T>(wide[i]);
    }
    return values;
  }
}

/// Opens attribute `name` of `object`.
Id open_attribute(const Id& object, const std::filesystem::path& path, const std::string& name) {
  require<IoError>(H5Aexists(object.get(), name.c_str()) > 0,
                   "'{}' has no attribute '{}'; is it the right kind of file?", path.string(), name);
  Id attribute =
      checked(H5Aopen(object.get(), name.c_str(), H5P_DEFAULT), path, "cannot open attribute '" + name + "'");
  const Id space = checked(H5Aget_space(attribute.get()), path, "cannot open attribute '" + name + "'");
  require<IoError>(H5Sget_simple_extent_npoints(space.get()) == 1, "'{}': attribute '{}' is not a single value",
                   path.string(), name);
  return attribute;
}

std::string read_variable_string(const Id& attribute, hid_t type, const std::filesystem::path& path,
                                 const std::string& name) {
  char* text = nullptr;
  if (H5Aread(attribute.get(), type, &text) < 0) fail(path, "cannot read attribute '" + name + "'");
  std::string value = text == nullptr ? "" : text;
  H5free_memory(text);
  return value;
}

template <class T>
T read_int(hid_t file, const std::filesystem::path& path, const std::string& name, const std::string& object_name) {
  const Id object = open_object(file, path, object_name);
  const Id attribute = open_attribute(object, path, name);
  const Id type = checked(H5Aget_type(attribute.get()), path, "cannot read the type of attribute '" + name + "'");
  require<IoError>(H5Tget_class(type.get()) == H5T_INTEGER && H5Tget_size(type.get()) <= sizeof(T),
                   "'{}': attribute '{}' is not an integer of at most 64 bits", path.string(), name);
  T value = 0;
  if (H5Aread(attribute.get(), memory_type<T>(), &value) < 0) fail(path, "cannot read attribute '" + name + "'");
  return value;
}

}  // namespace

const char* hdf5_type_name(Hdf5Type type) {
  constexpr const char* kNames[] = {"int8",   "int16",  "int32",   "int64",   "uint8",       "uint16",
                                    "uint32", "uint64", "float32", "float64", "another type"};
  return kNames[static_cast<int>(type)];
}

uint64_t Hdf5DatasetInfo::elements() const {
  uint64_t product = 1;
  for (const uint64_t extent : shape) {
    require<IoError>(extent == 0 || product <= std::numeric_limits<uint64_t>::max() / extent,
                     "a dataset's shape overflows 64 bits; the file is damaged");
    product *= extent;
  }
  return product;
}

Hdf5File::Hdf5File(const std::filesystem::path& path) : path_(path) {
  quiet_library();
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  require<IoError>(std::filesystem::exists(status), "cannot read '{}': no such file; check the path", path.string());
  require<IoError>(std::filesystem::is_regular_file(status), "cannot read '{}': not a regular file", path.string());
  file_ = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  if (file_ < 0) fail(path, "cannot be opened as an HDF5 file");
}

Hdf5File::Hdf5File(Hdf5File&& other) noexcept : path_(std::move(other.path_)), file_(std::exchange(other.file_, -1)) {}

Hdf5File::~Hdf5File() {
  if (file_ >= 0) H5Fclose(file_);
}

std::vector<std::string> Hdf5File::list(const std::string& group) const {
  quiet_library();
  if (group != "/" && !exists(group)) return {};
  const Id object = open_object(file_, path_, group);
  require<IoError>(H5Iget_type(object.get()) != H5I_DATASET, "'{}': '{}' is a dataset, not a group", path_.string(),
                   group);
  std::vector<std::string> names;
  const auto collect = [](hid_t, const char* name, const H5O_info_t* info, void* out) -> herr_t {
    if (info->type == H5O_TYPE_DATASET) static_cast<std::vector<std::string>*>(out)->emplace_back(name);
    return 0;
  };
  // Visits each object once, through hard links only, whatever cycles the links form.
  if (H5Ovisit2(object.get(), H5_INDEX_NAME, H5_ITER_NATIVE, collect, &names, H5O_INFO_BASIC) < 0)
    fail(path_, "cannot list '" + group + "'");
  std::sort(names.begin(), names.end());
  return names;
}

bool Hdf5File::exists(const std::string& name) const {
  quiet_library();
  return name == "/" || walk_links(file_, path_, name) == LinkState::kHard;
}

Hdf5DatasetInfo Hdf5File::info(const std::string& dataset) const {
  quiet_library();
  return describe(open_dataset(file_, path_, dataset).get(), path_, dataset);
}

template <class T>
std::vector<T> Hdf5File::read(const std::string& name) const {
  quiet_library();
  const Id dataset = open_dataset(file_, path_, name);
  const Hdf5DatasetInfo stored = describe(dataset.get(), path_, name);
  require<IoError>(stored.type != Hdf5Type::kOther, "'{}': dataset '{}' is neither integer nor float32 or float64",
                   path_.string(), name);
  if constexpr (std::is_floating_point_v<T>) {
    return read_as<T>(dataset.get(), stored.elements(), path_, name);
  } else {
    require<IoError>(!is_float(stored.type), "'{}': dataset '{}' is {}, where integers are expected", path_.string(),
                     name, hdf5_type_name(stored.type));
    if (stored.type == Hdf5Type::kUint16 && std::is_same_v<T, uint16_t>)  // the common case, without the copy
      return read_as<T>(dataset.get(), stored.elements(), path_, name);
    return is_unsigned(stored.type) ? read_narrowed<T, uint64_t>(dataset.get(), stored.elements(), path_, name)
                                    : read_narrowed<T, int64_t>(dataset.get(), stored.elements(), path_, name);
  }
}

template std::vector<float> Hdf5File::read(const std::string&) const;
template std::vector<double> Hdf5File::read(const std::string&) const;
template std::vector<int32_t> Hdf5File::read(const std::string&) const;
template std::vector<int64_t> Hdf5File::read(const std::string&) const;
template std::vector<uint8_t> Hdf5File::read(const std::string&) const;
template std::vector<uint16_t> Hdf5File::read(const std::string&) const;
template std::vector<uint32_t> Hdf5File::read(const std::string&) const;
template std::vector<uint64_t> Hdf5File::read(const std::string&) const;

bool Hdf5File::has_attribute(const std::string& name, const std::string& object) const {
  quiet_library();
  return H5Aexists(open_object(file_, path_, object).get(), name.c_str()) > 0;
}

std::string Hdf5File::string_attribute(const std::string& name, const std::string& object_name) const {
  quiet_library();
  const Id object = open_object(file_, path_, object_name);
  const Id attribute = open_attribute(object, path_, name);
  const Id type = checked(H5Aget_type(attribute.get()), path_, "cannot read the type of attribute '" + name + "'");
  require<IoError>(H5Tget_class(type.get()) == H5T_STRING, "'{}': attribute '{}' is not a string", path_.string(),
                   name);
  if (H5Tis_variable_str(type.get()) > 0) return read_variable_string(attribute, type.get(), path_, name);
  const size_t size = H5Tget_size(type.get());
  require<IoError>(size <= kMaxAttributeBytes, "'{}': attribute '{}' claims {} bytes", path_.string(), name, size);
  std::string value(size, '\0');
  if (H5Aread(attribute.get(), type.get(), value.data()) < 0) fail(path_, "cannot read attribute '" + name + "'");
  value.resize(strnlen(value.data(), size));
  return value;
}

int64_t Hdf5File::int_attribute(const std::string& name, const std::string& object) const {
  quiet_library();
  return read_int<int64_t>(file_, path_, name, object);
}

uint64_t Hdf5File::uint_attribute(const std::string& name, const std::string& object) const {
  quiet_library();
  return read_int<uint64_t>(file_, path_, name, object);
}

}  // namespace moeut
