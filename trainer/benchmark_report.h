// What moeut-bench prints.
#pragma once

#include <string>

#include "data/json.h"
#include "trainer/benchmark.h"

namespace moeut {

/// What is measured, in the user's words.
struct BenchmarkSubject {
  std::string model;      ///< "profile 44M" or the configuration file
  std::string precision;  ///< as in train.precision
};

/// The prediction alone, as --dry-run prints it.
std::string prediction_text(const BenchmarkSubject& subject, const BenchmarkOptions& options, const MemoryPlan& plan);
Json prediction_json(const BenchmarkSubject& subject, const BenchmarkOptions& options, const MemoryPlan& plan);

/// All that was measured, beside the prediction.
std::string benchmark_text(const BenchmarkSubject& subject, const BenchmarkOptions& options, const Benchmark& result);
Json benchmark_json(const BenchmarkSubject& subject, const BenchmarkOptions& options, const Benchmark& result);

}  // namespace moeut
