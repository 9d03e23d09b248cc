// The HDF5 library itself: what reading (hdf5_file.cpp) and writing (hdf5_writer.cpp) share. Nobody else includes it.
#pragma once

#define H5_USE_110_API  // one spelling on HDF5 1.10 to 1.14
#include <hdf5.h>

#include <string>
#include <utility>

namespace moeut::hdf5 {

/// An HDF5 identifier, closed by H5Idec_ref whatever its kind.
class Id {
 public:
  explicit Id(hid_t id) : id_(id) {}
  Id(Id&& other) noexcept : id_(std::exchange(other.id_, -1)) {}
  Id& operator=(Id&&) = delete;
  ~Id() {
    if (id_ >= 0) H5Idec_ref(id_);
  }
  hid_t get() const { return id_; }
  bool valid() const { return id_ >= 0; }

 private:
  hid_t id_;
};

/// The library prints its error stack and may load plug-ins unless told otherwise (per thread, and per process).
void quiet_library();

/// The innermost description on HDF5's error stack, and clears it.
std::string reason();

}  // namespace moeut::hdf5
