#include "trainer/benchmark/loader_benchmark.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/machine.h"
#include "core/stopwatch.h"
#include "data/loader.h"
#include "trainer/random_tokens.h"

namespace moeut {
namespace {

constexpr int64_t kStreamTokens = int64_t{1} << 26;
constexpr uint64_t kFarSample = 1'000'000'000;

template <class F>
double seconds_of(F&& f) {
  Stopwatch watch(Device::cpu());
  watch.start();
  f();
  watch.stop();
  return watch.seconds();
}

/// Copies batch after batch of bytes, from a source that does not stay in a cache to one place.
class CopyMeter {
 public:
  explicit CopyMeter(size_t bytes) : source_(std::max(bytes, size_t{256} << 20), std::byte{1}), target_(bytes) {}

  double measure() {
    if (at_ + target_.size() > source_.size()) at_ = 0;
    const double seconds = seconds_of([&] { std::memcpy(target_.data(), source_.data() + at_, target_.size()); });
    at_ += target_.size();
    return seconds;
  }

 private:
  std::vector<std::byte> source_, target_;
  size_t at_ = 0;
};

double tokens_of(const LoaderBenchmarkOptions& o) {
  return static_cast<double>(o.batch_size * o.seq_len);
}

std::string rate_text(double tokens, const Spread& seconds) {
  return fmt::format("{:.1f} ({:.1f} to {:.1f}) M tokens/s", tokens / seconds.median / 1e6, tokens / seconds.max / 1e6,
                     tokens / seconds.min / 1e6);
}

Json::Object microseconds(const Spread& s) {
  return {{"median", s.median * 1e6}, {"min", s.min * 1e6}, {"max", s.max * 1e6}};
}

double first_epoch(const Loader& loader, int64_t batch_size) {
  const auto epoch = static_cast<int64_t>(loader.samples_per_epoch());
  return seconds_of([&] {
    for (int64_t s = 0; s < epoch; s += batch_size) {
      loader.get(static_cast<uint64_t>(s), std::min(batch_size, epoch - s));
    }
  });
}

}  // namespace

LoaderBenchmark run_loader_benchmark(const LoaderBenchmarkOptions& o) {
  const RandomTokens data(o.vocabulary, std::max(kStreamTokens, 4 * o.batch_size * o.seq_len) + 1, o.seed);
  const Loader loader(data.dataset(), {.seed = o.seed, .seq_len = o.seq_len});
  const auto get = [&](uint64_t first, int64_t count) { return seconds_of([&] { loader.get(first, count); }); };
  LoaderBenchmark result{.machine = machine_of(Device::cpu()).name,
                         .stream_tokens = loader.samples_per_epoch() * static_cast<uint64_t>(o.seq_len),
                         .first_seconds = first_epoch(loader, o.batch_size)};
  CopyMeter copy(static_cast<size_t>(o.batch_size * o.seq_len) * 2 * sizeof(int32_t));
  std::vector<double> batches, copies, near, far;
  for (int64_t i = 0; i < o.warmup + o.runs; ++i) {
    const double batch = get(static_cast<uint64_t>(i * o.batch_size), o.batch_size), copied = copy.measure();
    const double sample_near = get(0, 1), sample_far = get(kFarSample, 1);
    if (i < o.warmup) continue;
    batches.push_back(batch);
    copies.push_back(copied);
    near.push_back(sample_near);
    far.push_back(sample_far);
  }
  result.batch_seconds = Spread::of(std::move(batches));
  result.copy_seconds = Spread::of(std::move(copies));
  result.near_seconds = Spread::of(std::move(near));
  result.far_seconds = Spread::of(std::move(far));
  return result;
}

std::string loader_text(const LoaderBenchmarkOptions& o, const LoaderBenchmark& b) {
  std::string text =
      fmt::format("loader    {} x {} tokens a batch, shuffled; {} M random ids of {} bytes in the page cache\n",
                  o.batch_size, o.seq_len, b.stream_tokens / 1'000'000, o.vocabulary <= 65536 ? 2 : 4);
  text += fmt::format("machine   {}, 1 thread; medians of {} (min to max) after {} for warm-up\n", b.machine, o.runs,
                      o.warmup);
  text += fmt::format("batch     {}; {:.1f} in the first epoch, which checks hashes\n",
                      rate_text(tokens_of(o), b.batch_seconds), b.first_rate() / 1e6);
  text += fmt::format("copy      {}: memcpy of as many bytes as a batch has, 8 a token\n",
                      rate_text(tokens_of(o), b.copy_seconds));
  text += fmt::format("share     {:.1f} % of the copy\n", 100 * b.copy_seconds.median / b.batch_seconds.median);
  text += fmt::format("seek      sample 0 by itself {:.2f} us, sample 10^9 {:.2f} us\n", b.near_seconds.median * 1e6,
                      b.far_seconds.median * 1e6);
  return text;
}

Json loader_json(const LoaderBenchmarkOptions& o, const LoaderBenchmark& b) {
  return Json::Object{{"batch_size", o.batch_size},
                      {"seq_len", o.seq_len},
                      {"vocabulary", o.vocabulary},
                      {"machine", b.machine},
                      {"runs", o.runs},
                      {"warmup", o.warmup},
                      {"stream_tokens", b.stream_tokens},
                      {"first_epoch_tokens_per_s", b.first_rate()},
                      {"tokens_per_s", tokens_of(o) / b.batch_seconds.median},
                      {"copy_tokens_per_s", tokens_of(o) / b.copy_seconds.median},
                      {"batch_us", microseconds(b.batch_seconds)},
                      {"copy_us", microseconds(b.copy_seconds)},
                      {"sample_0_us", microseconds(b.near_seconds)},
                      {"sample_1e9_us", microseconds(b.far_seconds)}};
}

}  // namespace moeut
