// What every path of CVMM starts from: the tiles of the experts, listed on the device, and the rows of an operand.
#pragma once

#include <type_traits>

#include "kernels/cuda/launch.cuh"
#include "kernels/cvmm.h"

namespace moeut::kernels::cuda {

/// A tile of rows belongs to one expert: `tile` places, fewer at its end.
struct TileList {
  int32_t* expert;
  int32_t* first;  // place
};

/// As many tiles as there can be for any routing: what the grid is sized by, since the host does not know the routing.
__host__ __device__ inline int64_t most_tiles(const Route& route, int tile) {
  const int64_t full = route.pairs / tile;
  return full + (route.experts < route.pairs ? route.experts : route.pairs);
}
inline size_t tile_list_bytes(const Route& route, int tile) {
  return static_cast<size_t>(2 * most_tiles(route, tile)) * sizeof(int32_t);
}

/// Lists the tiles of all experts in order into the launch's workspace (tile_list_bytes), and -1 for an expert beyond.
TileList list_tiles(const Launch& launch, const Route& route, int tile);

/// Where the row of a sorted place begins, and its gate.
template <class T>
struct RowPointer {
  const T* data;
  Wide<T> gate;
};
template <class T>
__device__ inline RowPointer<T> row_pointer(const PairRows<T>& rows, const Route& route, int64_t place) {
  const int64_t pair = route.order[place];
  const int64_t row = rows.divisor > 0 ? pair / rows.divisor : place;
  return {rows.data + row * rows.ld, rows.gate != nullptr ? rows.gate[pair] : Wide<T>(1)};
}

// ---------------------------------------------------------------- launching

/// f(std::integral_constant<int, copy>).
template <class F>
void with_copy(int copy, F&& f) {
  if (copy == 16) return f(std::integral_constant<int, 16>());
  if (copy == 8) return f(std::integral_constant<int, 8>());
  f(std::integral_constant<int, 4>());
}

template <class Kernel>
void allow_shared(Kernel* kernel, int bytes) {
  const cudaError_t status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (status != cudaSuccess) throw BackendError(std::string("cvmm: cuda: ") + cudaGetErrorString(status));
}

}  // namespace moeut::kernels::cuda
