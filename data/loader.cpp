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
#include "data/permutation.h"

namespace moeut {

/// A thread that fills a bounded queue. The thread is the last member, so it ends before what it uses.
struct Loader::Prefetcher {
  Prefetcher(const Loader& loader, uint64_t first_sample, int64_t count)
      : thread(
            [this, &loader, first_sample, count](std::stop_token stop) { fill(stop, loader, first_sample, count); }) {}

  void fill(std::stop_token stop, const Loader& loader, uint64_t sample, int64_t count) {
    try {
      for (; !stop.stop_requested(); sample += static_cast<uint64_t>(count)) {
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

Loader::Loader(std::shared_ptr<const TokenDataset> dataset, LoaderOptions options)
    : dataset_(std::move(dataset)), options_(options) {
  require<ConfigError>(options.seq_len >= 1 && options.prefetch >= 1,
                       "loader: seq_len {} and prefetch {} must both be at least 1", options.seq_len, options.prefetch);
  const auto length = static_cast<uint64_t>(options.seq_len);
  require<IoError>(
      dataset_->tokens() > length,
      "'{}' holds {} tokens, fewer than one sequence of {} and its last target; give more text, or a smaller "
      "train.seq_len",
      dataset_->folder().string(), dataset_->tokens(), length);
  samples_ = (dataset_->tokens() - 1) / length;
}

Loader::~Loader() = default;

uint64_t Loader::window(uint64_t sample) const {
  const uint64_t position = sample % samples_;
  return options_.shuffle ? Permutation(samples_, options_.seed, sample / samples_)(position) : position;
}

Batch Loader::get(uint64_t first_sample, int64_t count) const {
  require<ConfigError>(count >= 1, "loader: a batch of {} sequences was asked for", count);
  const auto length = static_cast<size_t>(options_.seq_len);
  Batch batch{count, options_.seq_len, first_sample, {}, {}};
  batch.tokens.resize(static_cast<size_t>(count) * length);
  batch.targets.resize(batch.tokens.size());
  std::vector<int32_t> ids(length + 1);
  for (size_t row = 0; row < static_cast<size_t>(count); ++row) {
    dataset_->read(window(first_sample + row) * length, length + 1, ids.data());
    std::copy(ids.begin(), ids.end() - 1, batch.tokens.begin() + static_cast<ptrdiff_t>(row * length));
    std::copy(ids.begin() + 1, ids.end(), batch.targets.begin() + static_cast<ptrdiff_t>(row * length));
  }
  return batch;
}

void Loader::start(uint64_t first_sample, int64_t count_per_batch) {
  prefetcher_.reset();
  prefetcher_ = std::make_unique<Prefetcher>(*this, first_sample, count_per_batch);
}

Batch Loader::next() {
  require<Error>(prefetcher_ != nullptr, "Loader::next() before Loader::start()");
  return prefetcher_->take();
}

}  // namespace moeut
