// Work on a stream by many threads with results in the stream's order, in bounded memory.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

namespace moeut {

/// Calls `produce` on a thread of its own until it returns nothing, `work` on `threads` others, and consume (run()'s
/// argument) on the calling thread, in the order of production. At most 2 · threads + 2 items are under way, and no
/// more than weigh `most` by `weight`, if that is given; one that is heavier goes alone. (Beside them, there are the
/// item that is being consumed and the one that has been produced and waits for room.) Use it once.
template <class In, class Out>
class OrderedPipeline {
 public:
  OrderedPipeline(int threads, std::function<std::optional<In>()> produce, std::function<Out(In)> work,
                  std::function<uint64_t(const In&)> weight = {}, uint64_t most = 0)
      : threads_(threads),
        produce_(std::move(produce)),
        work_(std::move(work)),
        weight_(std::move(weight)),
        most_(most) {}
  OrderedPipeline(OrderedPipeline&&) = delete;
  ~OrderedPipeline() { stop(); }

  /// Returns when everything has been consumed. The exception that comes first in the order of production is rethrown
  /// when all before it has been consumed, and nothing after it is.
  void run(const std::function<void(Out)>& consume) {
    std::exception_ptr error;
    try {
      pool_.emplace_back([this] { produce_all(); });
      for (int i = 0; i < threads_; ++i) pool_.emplace_back([this] { work_all(); });
      while (auto result = next_result()) consume(result->get());
    } catch (...) {
      error = std::current_exception();
    }
    stop();  // before rethrowing: no other thread holds the exception any longer
    if (error) std::rethrow_exception(error);
  }

 private:
  struct Job {
    std::optional<In> in;  // nothing: `out` already holds the producer's exception
    std::promise<Out> out;
  };
  struct Pending {
    std::future<Out> out;
    uint64_t weight = 0;
  };

  void produce_all() {
    try {
      while (auto item = produce_())
        if (!add(std::make_shared<Job>(Job{std::move(item), {}}))) break;
    } catch (...) {
      auto job = std::make_shared<Job>();
      job->out.set_exception(std::current_exception());
      add(std::move(job));
    }
    const std::lock_guard lock(mutex_);
    produced_all_ = true;
    changed_.notify_all();
  }

  /// Waits for room; false if the pipeline was stopped.
  bool add(std::shared_ptr<Job> job) {
    const uint64_t weight = weight_ && job->in ? weight_(*job->in) : 0;
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return stopped_ || in_order_.empty() || has_room(weight); });
    if (stopped_) return false;
    in_order_.push_back({job->out.get_future(), weight});
    under_way_ += weight;
    if (job->in) waiting_.push_back(std::move(job));
    changed_.notify_all();
    return true;
  }

  bool has_room(uint64_t weight) const {
    return in_order_.size() < 2 * static_cast<size_t>(threads_) + 2 && (!weight_ || under_way_ + weight <= most_);
  }

  void work_all() {
    while (const std::shared_ptr<Job> job = next_job()) {
      try {
        job->out.set_value(work_(std::move(*job->in)));
      } catch (...) {
        job->out.set_exception(std::current_exception());
      }
    }
  }

  std::shared_ptr<Job> next_job() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return stopped_ || produced_all_ || !waiting_.empty(); });
    if (stopped_ || waiting_.empty()) return nullptr;
    std::shared_ptr<Job> job = std::move(waiting_.front());
    waiting_.pop_front();
    return job;
  }

  std::optional<std::future<Out>> next_result() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return produced_all_ || !in_order_.empty(); });
    if (in_order_.empty()) return std::nullopt;
    std::future<Out> result = std::move(in_order_.front().out);
    under_way_ -= in_order_.front().weight;
    in_order_.pop_front();
    changed_.notify_all();
    return result;
  }

  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stopped_ = true;
      changed_.notify_all();
    }
    pool_.clear();  // joins
  }

  int threads_;
  std::function<std::optional<In>()> produce_;
  std::function<Out(In)> work_;
  std::function<uint64_t(const In&)> weight_;
  uint64_t most_, under_way_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Job>> waiting_;  ///< for a worker
  std::deque<Pending> in_order_;              ///< for the consumer
  bool produced_all_ = false, stopped_ = false;
  std::vector<std::jthread> pool_;
};

}  // namespace moeut
