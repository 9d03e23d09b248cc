// moeut-parity: this implementation against golden files.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>
#include <new>

#include "core/check.h"
#include "trainer/parity_report.h"
#include "trainer/run_inputs.h"
#include "trainer/threads.h"

namespace moeut {
namespace {

const std::map<std::string, Precision> kPrecisions = {{"fp64", Precision::fp64},
                                                      {"fp32", Precision::fp32},
                                                      {"tf32", Precision::tf32},
                                                      {"bf16", Precision::bf16},
                                                      {"fp16", Precision::fp16}};
const std::map<std::string, RoutingSource> kRoutings = {{"own", RoutingSource::own},
                                                        {"reference", RoutingSource::reference}};

constexpr const char* kFooter = R"(
Prints the limits of the precision, then one line a file: relative L2 errors against the file's values.
  outputs reg_loss ce_loss       of one pass
  grad_median grad_worst         over all parameters, the worst by its name
  ce_loss_first20 ce_loss_all    of a trajectory: the largest deviation in the first 20 steps and in all
  mean_last20                    of a trajectory: deviation of the mean ce_loss of the last 20 steps
  reg_loss grad_norm lr          of a trajectory: the largest deviation in all steps
  final_worst                    of a trajectory: the worst parameter after the last step
and PASS or FAIL with the limits that were passed.

Exit status: 0 all within the limits; 1 a limit was passed or a file cannot be used; 2 the command line is wrong.)";

template <class Value>
std::vector<std::string> names(const std::map<std::string, Value>& values) {
  std::vector<std::string> all;
  for (const auto& [name, value] : values) all.push_back(name);
  return all;
}

struct CommandLine {
  std::vector<std::string> files;
  std::string device = "cpu", precision = "fp32", routing = "own";
  int threads = 0;

  void declare(CLI::App& app) {
    app.add_option("FILE", files, "Golden files: single cases and trajectories")->required();
    app.add_option("--device", device, "cpu, cuda, cuda:N or auto")->capture_default_str();
    app.add_option("--precision", precision, "What to compute in")
        ->check(CLI::IsMember(names(kPrecisions)))
        ->capture_default_str();
    app.add_option(
           "--routing", routing,
           "own: routers choose; reference: the experts that an fp64 CPU run chooses, so that rounding alone is "
           "measured")
        ->check(CLI::IsMember(names(kRoutings)))
        ->capture_default_str();
    app.add_option("--threads", threads, "CPU threads (default: all); the figures do not depend on it")
        ->check(CLI::Range(1, 1024));
    app.footer(kFooter);
  }

  /// Throws ConfigError for what this build or machine does not have.
  ParityOptions options() const {
    return {.precision = kPrecisions.at(precision), .device = find_device(device), .routing = kRoutings.at(routing)};
  }
};

/// Measures one file, prints its line, says whether all is within the limits.
bool check_file(const std::string& path, const ParityOptions& options, const ParityLimits& limits) {
  const GoldenFile file = read_golden(path);
  std::string kind = "trajectory";
  std::vector<Figure> figures;
  if (const auto* golden = std::get_if<GoldenCase>(&file)) {
    kind = golden->kind == GoldenCase::Kind::lm ? "lm" : "body";
    figures = figures_of(*golden, measure(*golden, options), limits);
  } else {
    figures = figures_of(measure(std::get<GoldenTrajectory>(file), options), limits);
  }
  fmt::print("{}\n", report_line(path, kind, figures));
  require<IoError>(std::fflush(stdout) == 0, "cannot write to standard output");
  return all_within(figures);
}

/// The same for a file that may be unusable: the others still get their lines.
bool try_file(const std::string& path, const ParityOptions& options, const ParityLimits& limits) {
  try {
    return check_file(path, options, limits);
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "moeut-parity: '{}': out of memory\n", path);
  } catch (const Error& error) {
    const std::string message = error.what();
    const bool named = message.find("'" + path + "'") != std::string::npos;
    fmt::print(stderr, "moeut-parity: {}{}\n", named ? "" : "'" + path + "': ", message);
  }
  return false;
}

int run(int argc, char** argv) {
  CLI::App app("How far this implementation is from golden files", "moeut-parity");
  CommandLine line;
  line.declare(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help
    throw ConfigError(fmt::format("{}; moeut-parity --help lists the arguments", error.what()));
  }
  const ParityOptions options = line.options();
  set_cpu_threads(line.threads);
  const ParityLimits limits = parity_limits(options.precision, options.routing);
  fmt::print("{}\n", describe_limits(limits, line.precision, line.routing));
  bool all = true;
  for (const std::string& path : line.files) all = try_file(path, options, limits) && all;
  return all ? 0 : 1;
}

}  // namespace
}  // namespace moeut

int main(int argc, char** argv) {
  moeut::start_with_patient_threads(argv);
  try {
    return moeut::run(argc, argv);
  } catch (const moeut::ConfigError& error) {
    fmt::print(stderr, "moeut-parity: {}\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    fmt::print(stderr, "moeut-parity: {}\n", error.what());
    return 1;
  }
}
