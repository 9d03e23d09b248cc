# Third-party libraries, each behind one target. scripts/install-deps installs them all.
find_package(Threads REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(PkgConfig REQUIRED)
find_package(fmt REQUIRED CONFIG)
find_package(spdlog REQUIRED CONFIG)
find_package(CLI11 REQUIRED CONFIG)
find_package(nlohmann_json REQUIRED CONFIG)
find_package(yaml-cpp REQUIRED CONFIG)
find_package(ZLIB REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(doctest REQUIRED CONFIG)
pkg_check_modules(OPENBLAS REQUIRED IMPORTED_TARGET openblas)
# Not through pkg-config: newer sentencepiece.pc files require protobuf-lite.pc, which Debian's package does not bring along.
find_path(SENTENCEPIECE_INCLUDE_DIR sentencepiece_processor.h REQUIRED)
find_library(SENTENCEPIECE_LIBRARY sentencepiece REQUIRED)
find_library(SENTENCEPIECE_TRAIN_LIBRARY sentencepiece_train REQUIRED)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)

set(HDF5_PREFER_PARALLEL OFF)
enable_language(C)  # FindHDF5 needs it
find_package(HDF5 REQUIRED COMPONENTS C)

add_library(moeut_blas INTERFACE)
target_link_libraries(moeut_blas INTERFACE PkgConfig::OPENBLAS)
add_library(moeut::blas ALIAS moeut_blas)

add_library(moeut_hdf5 INTERFACE)
target_include_directories(moeut_hdf5 SYSTEM INTERFACE ${HDF5_C_INCLUDE_DIRS})
target_link_libraries(moeut_hdf5 INTERFACE ${HDF5_C_LIBRARIES})
add_library(moeut::hdf5 ALIAS moeut_hdf5)

add_library(moeut_sentencepiece INTERFACE)
target_include_directories(moeut_sentencepiece SYSTEM INTERFACE ${SENTENCEPIECE_INCLUDE_DIR})
target_link_libraries(moeut_sentencepiece INTERFACE ${SENTENCEPIECE_TRAIN_LIBRARY} ${SENTENCEPIECE_LIBRARY})
add_library(moeut::sentencepiece ALIAS moeut_sentencepiece)

add_library(moeut_compression INTERFACE)
target_link_libraries(moeut_compression INTERFACE ZLIB::ZLIB PkgConfig::ZSTD)
add_library(moeut::compression ALIAS moeut_compression)

# yaml-cpp 0.7 (Debian 12) exports `yaml-cpp`; 0.8 (Ubuntu 24.04) exports `yaml-cpp::yaml-cpp` alone.
add_library(moeut_yaml INTERFACE)
if(TARGET yaml-cpp::yaml-cpp)
  target_link_libraries(moeut_yaml INTERFACE yaml-cpp::yaml-cpp)
else()
  target_link_libraries(moeut_yaml INTERFACE yaml-cpp)
endif()
add_library(moeut::yaml ALIAS moeut_yaml)

add_library(moeut_json INTERFACE)
target_link_libraries(moeut_json INTERFACE nlohmann_json::nlohmann_json)
add_library(moeut::json ALIAS moeut_json)

add_library(moeut_hash INTERFACE)
target_link_libraries(moeut_hash INTERFACE PkgConfig::XXHASH OpenSSL::Crypto)
add_library(moeut::hash ALIAS moeut_hash)

add_library(moeut_mpi INTERFACE)
add_library(moeut::mpi ALIAS moeut_mpi)
set(MOEUT_HAS_MPI OFF)
if(NOT MOEUT_MPI STREQUAL "OFF")
  set(MPI_CXX_SKIP_MPICXX ON)  # the C interface alone
  find_package(MPI COMPONENTS CXX)
  if(MPI_CXX_FOUND)
    set(MOEUT_HAS_MPI ON)
    target_link_libraries(moeut_mpi INTERFACE MPI::MPI_CXX)
  elseif(MOEUT_MPI STREQUAL "ON")
    message(FATAL_ERROR "MOEUT_MPI=ON but no MPI was found; run scripts/install-deps")
  endif()
endif()
