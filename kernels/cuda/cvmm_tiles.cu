#include "kernels/cuda/cvmm_tiles.cuh"

namespace moeut::kernels::cuda {

namespace {

/// One block lists the tiles of all experts in order, and ends the list with -1.
__global__ void __launch_bounds__(1024) list_tiles_kernel(Route route, int tile, TileList list) {
  __shared__ int64_t running;
  __shared__ int64_t parts[32];
  if (threadIdx.x == 0) running = 0;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int64_t begin = 0; begin < route.experts; begin += blockDim.x) {
    const int64_t e = begin + threadIdx.x;
    const int64_t first = e < route.experts ? route.offsets[e] : 0, end = e < route.experts ? route.offsets[e + 1] : 0;
    const int64_t tiles = ceil_div(end - first, tile);
    int64_t sum = tiles;
    for (int distance = 1; distance < 32; distance *= 2) {
      const int64_t other = __shfl_up_sync(kAllLanes, sum, distance);
      if (lane >= distance) sum += other;
    }
    if (lane == 31) parts[warp] = sum;
    __syncthreads();
    int64_t at = running + sum - tiles, total = 0;
    for (int w = 0; w < 32; ++w) {
      if (w < warp) at += parts[w];
      total += parts[w];
    }
    for (int64_t t = 0; t < tiles; ++t) {
      list.expert[at + t] = static_cast<int32_t>(e);
      list.first[at + t] = static_cast<int32_t>(first + t * tile);
    }
    __syncthreads();
    if (threadIdx.x == 0) running += total;
    __syncthreads();
  }
  for (int64_t t = running + threadIdx.x; t < most_tiles(route, tile); t += blockDim.x) list.expert[t] = -1;
}

}  // namespace

TileList list_tiles(const Launch& launch, const Route& route, int tile) {
  auto* places = static_cast<int32_t*>(launch.workspace);
  const TileList list{places, places + most_tiles(route, tile)};
  list_tiles_kernel<<<1, 1024, 0, stream_of(launch)>>>(route, tile, list);
  check_launch("cvmm: tiles");
  return list;
}

}  // namespace moeut::kernels::cuda
