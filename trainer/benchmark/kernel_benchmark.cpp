#include "trainer/benchmark/kernel_benchmark.h"

#include <fmt/ranges.h>
#include <omp.h>

#include <algorithm>
#include <deque>

#include "core/check.h"
#include "core/memory.h"
#include "core/stopwatch.h"
#include "trainer/benchmark/kernel_subject.h"

namespace moeut {
namespace {

/// The subjects of these names, all for "all".
std::vector<KernelSubject> chosen(const std::vector<std::string>& names) {
  const std::vector<KernelSubject> all = kernel_subjects();
  const std::string known = fmt::format("{}", fmt::join(kernel_names(), ", "));
  std::vector<KernelSubject> subjects;
  for (const std::string& name : names) {
    if (name == "all") return all;
    const auto found = std::find_if(all.begin(), all.end(), [&](const KernelSubject& s) { return s.name == name; });
    require<ConfigError>(found != all.end(), "--kernel: '{}' is none of all, {}", name, known);
    subjects.push_back(*found);
  }
  return subjects;
}

class Meter {
 public:
  Meter(const KernelBenchmarkOptions& options, size_t cold_bytes) : options_(options), cold_bytes_(cold_bytes) {}

  KernelTiming measure(const KernelSubject& subject) const {
    KernelTiming timing{.name = std::string(subject.name), .cost = subject.cost(options_.shape)};
    {
      const std::vector<KernelRun> sets = prepare(subject, timing);
      timing.seconds = Spread::of(time(sets));
    }
    trim(options_.device);
    return timing;
  }

 private:
  /// A set of operands and its first run, which alone has to wait for fresh memory.
  KernelRun prepare_set(const KernelSubject& subject, int64_t number) const {
    KernelRun run = subject.prepare(options_.shape, options_.device, static_cast<uint64_t>(number));
    run();
    return run;
  }

  /// As many sets as it takes for the first to be out of the cache when its turn comes again.
  std::vector<KernelRun> prepare(const KernelSubject& subject, KernelTiming& timing) const {
    const size_t before = memory_stats(options_.device).in_use;
    std::vector<KernelRun> sets = {prepare_set(subject, 0)};
    timing.set_bytes = memory_stats(options_.device).in_use - before;
    if (timing.set_bytes < 8 * cold_bytes_) {
      const size_t others = (cold_bytes_ + timing.set_bytes - 1) / std::max<size_t>(timing.set_bytes, 1);
      timing.sets = 1 + std::min(static_cast<int64_t>(others), options_.warmup + options_.runs - 1);
    }
    for (int64_t i = 1; i < timing.sets; ++i) sets.push_back(prepare_set(subject, i));
    return sets;
  }

  /// All runs are enqueued before the first is waited for: the device is never idle between two of them, and what the
  /// host needs for a launch does not count.
  std::vector<double> time(const std::vector<KernelRun>& sets) const {
    std::deque<Stopwatch> watches;
    for (int64_t i = 0; i < options_.runs; ++i) watches.emplace_back(options_.device);
    for (int64_t i = 0; i < options_.warmup + options_.runs; ++i) {
      const KernelRun& run = sets[static_cast<size_t>(i) % sets.size()];
      if (i < options_.warmup) {
        run();
        continue;
      }
      Stopwatch& watch = watches[static_cast<size_t>(i - options_.warmup)];
      watch.start();
      run();
      watch.stop();
    }
    std::vector<double> seconds;
    for (const Stopwatch& watch : watches) seconds.push_back(watch.seconds());
    return seconds;
  }

  const KernelBenchmarkOptions& options_;
  size_t cold_bytes_;
};

}  // namespace

size_t cold_bytes_of(size_t cache_bytes) {
  return std::max<size_t>(size_t{256} << 20, 2 * cache_bytes);
}

double KernelBenchmark::floor_seconds(const KernelTiming& kernel) const {
  return std::max(kernel.cost.bytes / copy.byte_rate(), kernel.cost.flops / gemm.flop_rate());
}

bool KernelBenchmark::memory_bound(const KernelTiming& kernel) const {
  return kernel.cost.bytes / copy.byte_rate() >= kernel.cost.flops / gemm.flop_rate();
}

std::vector<std::string> kernel_names() {
  std::vector<std::string> names;
  for (const KernelSubject& subject : kernel_subjects()) names.emplace_back(subject.name);
  return names;
}

KernelBenchmark run_kernel_benchmark(const KernelBenchmarkOptions& options,
                                     const std::function<void(const std::string&)>& progress) {
  options.shape.model.validate();
  const std::vector<KernelSubject> subjects = chosen(options.kernels);
  KernelBenchmark result{.machine = machine_of(options.device), .threads = omp_get_max_threads()};
  result.cold_bytes = options.cold_bytes > 0 ? options.cold_bytes : cold_bytes_of(result.machine.cache_bytes);
  const Meter meter(options, result.cold_bytes);
  const auto measure = [&](const KernelSubject& subject) {
    if (progress) progress(std::string(subject.name));
    return meter.measure(subject);
  };
  result.copy = measure(copy_subject());
  result.gemm = measure(gemm_subject());
  for (const KernelSubject& subject : subjects) {
    const bool ceiling = subject.name == result.copy.name || subject.name == result.gemm.name;
    result.kernels.push_back(!ceiling                           ? measure(subject)
                             : subject.name == result.copy.name ? result.copy
                                                                : result.gemm);
  }
  return result;
}

}  // namespace moeut
