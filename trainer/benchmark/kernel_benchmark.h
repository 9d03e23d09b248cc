// How fast the kernels of a model are by themselves, beside what the machine can reach at all.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/device.h"
#include "core/machine.h"
#include "trainer/benchmark.h"
#include "trainer/benchmark/kernel_cost.h"

namespace moeut {

struct KernelBenchmarkOptions {
  KernelShape shape;
  Device device;
  std::vector<std::string> kernels;  ///< names, or "all"
  int64_t runs = 10;                 ///< timed
  int64_t warmup = 2;                ///< before them, besides the first run of every set of operands
  size_t cold_bytes = 0;             ///< see KernelBenchmark; 0: cold_bytes_of the device's cache
};

/// 256 MiB, or twice the cache if that is more: what must pass through a cache for nothing to be left of before.
size_t cold_bytes_of(size_t cache_bytes);

/// Bytes that the machine's own copy reads: far more than a cache holds.
constexpr int64_t copy_size(Device device) {
  return device.is_cuda() ? int64_t{1} << 30 : int64_t{256} << 20;
}

/// One kernel's measurement.
struct KernelTiming {
  std::string name;
  KernelCost cost;
  Spread seconds;        ///< of a run, by the device's clock
  int64_t sets = 1;      ///< of operands, taken in turn
  size_t set_bytes = 0;  ///< memory of one

  double flop_rate() const { return cost.flops / seconds.median; }
  double byte_rate() const { return cost.bytes / seconds.median; }
};

struct KernelBenchmark {
  Machine machine;
  int threads = 0;                    ///< of the host
  KernelTiming copy, gemm;            ///< the ceilings, measured first
  std::vector<KernelTiming> kernels;  ///< in the order asked for
  /// Between two uses of the same operands at least so many bytes of others are used, unless there are too few runs for
  /// so many sets; operands of more than eight times as much are one set, which drives itself out of the cache.
  size_t cold_bytes = 0;

  /// What the ceilings leave a kernel that finds nothing in a cache: max(bytes / copy rate, FLOPs / gemm rate).
  double floor_seconds(const KernelTiming& kernel) const;
  bool memory_bound(const KernelTiming& kernel) const;
  /// Of the roofline: floor_seconds / median.
  double share(const KernelTiming& kernel) const { return floor_seconds(kernel) / kernel.seconds.median; }
};

/// The names in the order of kernel_subjects().
std::vector<std::string> kernel_names();

/// Throws ConfigError for a name that is none of kernel_names() or for a model that is not possible; BackendError if
/// memory runs out. `progress`, if given, hears of each kernel before it is measured.
KernelBenchmark run_kernel_benchmark(const KernelBenchmarkOptions& options,
                                     const std::function<void(const std::string& name)>& progress = {});

}  // namespace moeut
