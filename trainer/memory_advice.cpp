#include "trainer/memory_advice.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "trainer/memory_plan.h"

namespace moeut {
namespace {

size_t mib(size_t bytes) {
  return (bytes + (1 << 20) - 1) >> 20;
}

struct Fit {
  int64_t micro_batch_size;
  size_t bytes;
};

/// The largest of micro-batch / 2, / 4, … 1 that fits, from `first` on.
std::optional<Fit> largest_fit(const auto& bytes_of, int64_t first, size_t budget) {
  for (int64_t micro = first; micro > 0; micro /= 2)
    if (const size_t bytes = bytes_of(micro); bytes <= budget) return Fit{micro, bytes};
  return std::nullopt;
}

}  // namespace

std::string memory_advice(const RunConfig& config, const ModelConfig& model, const ModuleOptions& modules,
                          size_t budget) {
  const TrainSection& train = config.train;
  const int64_t given =
      train.micro_batch_size > 0 ? std::min(train.micro_batch_size, train.batch_size) : train.batch_size;
  const auto bytes_with = [&](bool recompute) {
    return [&, recompute](int64_t micro) {
      return plan_memory(model, modules, config.optimizer,
                         {.batch_size = train.batch_size,
                          .micro_batch_size = micro,
                          .seq_len = train.seq_len,
                          .recompute = recompute})
          .peak;
    };
  };
  const size_t usable = budget - budget / 20;
  std::string ways;
  const auto add = [&](const std::optional<Fit>& fit, bool recompute) {
    if (!fit) return;
    ways += fmt::format("{}train.micro_batch_size={}{} ({} MiB)", ways.empty() ? "" : ", or ", fit->micro_batch_size,
                        recompute && !train.recompute ? " train.recompute=true" : "", mib(fit->bytes));
  };
  if (!train.recompute) add(largest_fit(bytes_with(false), given / 2, usable), false);
  add(largest_fit(bytes_with(true), train.recompute ? given / 2 : given, usable), true);
  const std::string needs =
      fmt::format("The step needs {} MiB (predicted) of {} MiB", mib(bytes_with(train.recompute)(given)), mib(budget));
  if (!ways.empty()) return fmt::format("{}; it would fit with {}", needs, ways);
  return fmt::format(
      "{}; with train.micro_batch_size=1 train.recompute=true it still needs {} MiB: lower train.seq_len, or take a "
      "smaller model or a device with more memory",
      needs, mib(bytes_with(true)(1)));
}

}  // namespace moeut
