// What moeut-bench --kernel prints.
#pragma once

#include <string>

#include "data/json.h"
#include "trainer/benchmark/kernel_benchmark.h"
#include "trainer/benchmark_report.h"

namespace moeut {

/// A line a kernel: time, rates and the share of its roofline, under the ceilings that the roofline is made of.
std::string kernel_text(const BenchmarkSubject& subject, const KernelBenchmarkOptions& options,
                        const KernelBenchmark& result);
Json kernel_json(const BenchmarkSubject& subject, const KernelBenchmarkOptions& options, const KernelBenchmark& result);

}  // namespace moeut
