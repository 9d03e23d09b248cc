#include "data/loader.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>

#include "core/check.h"
#include "data/hash.h"

namespace moeut {
namespace {

/// 2^64 divided by the golden ratio: sets the seeds of corpora apart.
constexpr uint64_t kSeedStep = 0x9E3779B97F4A7C15;

std::vector<double> weights_of(const std::vector<Corpus>& corpora) {
  std::vector<double> weights;
  for (const Corpus& corpus : corpora) weights.push_back(corpus.weight);
  return weights;
}

}  // namespace

int64_t Batch::real_targets() const {
  if (!padded) return static_cast<int64_t>(targets.size());
  return std::count_if(targets.begin(), targets.end(), [](int32_t target) { return target >= 0; });
}

/// A thread that fills a bounded queue. The thread is the last member, so it ends before what it uses.
struct Loader::Prefetcher {
  Prefetcher(const Loader& loader, uint64_t first_sample, int64_t count, int64_t stride)
      : thread([this, &loader, first_sample, count, stride](std::stop_token stop) {
          fill(stop, loader, first_sample, count, stride);
        }) {}

  void fill(std::stop_token stop, const Loader& loader, uint64_t sample, int64_t count, int64_t stride) {
    try {
      for (; !stop.stop_requested(); sample += static_cast<uint64_t>(stride)) {
        Batch batch = loader.get(sample, count);
        std::unique_lock lock(mutex);
        const auto has_room = [&] { return ready.size() < static_cast<size_t>(loader.options_.prefetch); };
        if (!changed.wait(lock, stop, has_room)) return;
        ready.push_back(std::move(batch));
        changed.notify_all();
      }
    } catch (...) {
      const std::lock_guard lock(mutex);
      error = std::current_exception();
      changed.notify_all();
    }
  }

  Batch take() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return !ready.empty() || error; });
    if (ready.empty()) std::rethrow_exception(error);  // what was read before the error is still delivered
    Batch batch = std::move(ready.front());
    ready.pop_front();
    changed.notify_all();
    return batch;
  }

  std::mutex mutex;
  std::condition_variable_any changed;
  std::deque<Batch> ready;
  std::exception_ptr error;
  std::jthread thread;
};

Loader::Loader(std::vector<Corpus> corpora, const LoaderOptions& options)
    : options_(options), mixture_(weights_of(corpora)) {
  require<ConfigError>(options.seq_len >= 1 && options.prefetch >= 1 && options.lanes >= 1,
                       "loader: seq_len {}, lanes {} and prefetch {} must all be at least 1", options.seq_len,
                       options.lanes, options.prefetch);
  for (Corpus& corpus : corpora) {
    SequenceIndex sequences(corpus.dataset, options.packing, options.seq_len);
    const EpochOrder order(sequences.sequences(), options.order, static_cast<uint64_t>(options.lanes),
                           options.seed + parts_.size() * kSeedStep);
    parts_.push_back({std::move(corpus.dataset), std::move(sequences), order});
  }
}

Loader::Loader(std::shared_ptr<const TokenDataset> dataset, const LoaderOptions& options)
    : Loader(std::vector<Corpus>{{std::move(dataset)}}, options) {}

Loader::~Loader() = default;

uint64_t Loader::samples_per_epoch() const {
  uint64_t sum = 0;
  for (const Part& part : parts_) sum += part.order.samples_per_epoch();
  return sum;
}

Loader::Place Loader::place(uint64_t sample) const {
  const auto [corpus, index] = mixture_(sample);
  const EpochOrder& order = parts_[corpus].order;
  return {corpus, index / order.samples_per_epoch(), order(index)};
}

std::string Loader::fingerprint() const {
  if (parts_.size() == 1) return parts_.front().dataset->fingerprint();
  Xxh3 hash;
  for (size_t i = 0; i < parts_.size(); ++i) {
    const std::string line = fmt::format("{} {}\n", parts_[i].dataset->fingerprint(), mixture_.quota(i));
    hash.update(line.data(), line.size());
  }
  return hash.hex();
}

void Loader::read_row(uint64_t sample, Batch& batch, size_t row, std::vector<int32_t>& ids) const {
  const Place at = place(sample);
  const Part& part = parts_[at.corpus];
  const auto [first, targets] = part.sequences.span(at.sequence);
  part.dataset->read(first, targets + 1, ids.data());
  const size_t begin = row * static_cast<size_t>(options_.seq_len);
  std::copy_n(ids.data(), targets, batch.tokens.data() + begin);
  std::copy_n(ids.data() + 1, targets, batch.targets.data() + begin);
  if (!batch.document_starts.empty())
    document_starts(*part.dataset, first, targets, batch.document_starts.data() + begin);
}

Batch Loader::get(uint64_t first_sample, int64_t count) const {
  require<ConfigError>(count >= 1, "loader: a batch of {} sequences was asked for", count);
  const auto length = static_cast<size_t>(options_.seq_len);
  Batch batch{count, options_.seq_len, first_sample, {}, {}};
  batch.padded = padded();
  batch.tokens.resize(static_cast<size_t>(count) * length);
  batch.targets.resize(batch.tokens.size(), Batch::kIgnoredTarget);
  if (options_.document_mask && !batch.padded) batch.document_starts.resize(batch.tokens.size());
  std::vector<int32_t> ids(length + 1);
  for (size_t row = 0; row < static_cast<size_t>(count); ++row) read_row(first_sample + row, batch, row, ids);
  return batch;
}

int64_t Loader::real_targets(uint64_t first_sample, int64_t count) const {
  if (!padded()) return count * options_.seq_len;
  uint64_t targets = 0;
  for (uint64_t sample = first_sample; sample < first_sample + static_cast<uint64_t>(count); ++sample) {
    const Place at = place(sample);
    targets += parts_[at.corpus].sequences.span(at.sequence).targets;
  }
  return static_cast<int64_t>(targets);
}

void Loader::start(uint64_t first_sample, int64_t count_per_batch, int64_t stride) {
  prefetcher_.reset();
  prefetcher_ =
      std::make_unique<Prefetcher>(*this, first_sample, count_per_batch, stride > 0 ? stride : count_per_batch);
}

Batch Loader::next() {
  require<Error>(prefetcher_ != nullptr, "Loader::next() before Loader::start()");
  return prefetcher_->take();
}

}  // namespace moeut
