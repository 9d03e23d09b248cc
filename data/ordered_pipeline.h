// Work on a stream by many threads with results in the stream's order, in bounded memory.
#pragma once

#include <condition_variable>
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

/// Calls `produce` on a thread of its own until it returns nothing, `work` on `threads` others, and `consume` on the
/// calling thread, in the order of production. At most 2 · threads + 2 items are under way. The exception that comes
/// first in that order is rethrown when all before it have been consumed; nothing after it is.
template <class In, class Out>
void ordered_pipeline(int threads, const std::function<std::optional<In>()>& produce,
                      const std::function<Out(In)>& work, const std::function<void(Out)>& consume) {
  struct Job {
    std::optional<In> in;
    std::promise<Out> out;
  };
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::shared_ptr<Job>> waiting;  // for a worker
  std::deque<std::future<Out>> in_order;     // for the consumer
  bool produced_all = false, stop = false;
  const size_t limit = 2 * static_cast<size_t>(threads) + 2;

  const auto add = [&](std::shared_ptr<Job> job, bool for_worker) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return stop || in_order.size() < limit; });
    if (stop) return false;
    in_order.push_back(job->out.get_future());
    if (for_worker) waiting.push_back(std::move(job));
    changed.notify_all();
    return true;
  };
  const auto producer = [&] {
    try {
      while (auto item = produce()) {
        auto job = std::make_shared<Job>();
        job->in = std::move(item);
        if (!add(std::move(job), true)) break;
      }
    } catch (...) {
      auto job = std::make_shared<Job>();
      job->out.set_exception(std::current_exception());
      add(std::move(job), false);
    }
    const std::lock_guard lock(mutex);
    produced_all = true;
    changed.notify_all();
  };
  const auto worker = [&] {
    while (true) {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return stop || produced_all || !waiting.empty(); });
      if (stop || waiting.empty()) return;
      const std::shared_ptr<Job> job = std::move(waiting.front());
      waiting.pop_front();
      lock.unlock();
      try {
        job->out.set_value(work(std::move(*job->in)));
      } catch (...) {
        job->out.set_exception(std::current_exception());
      }
    }
  };
  const auto next_result = [&]() -> std::optional<std::future<Out>> {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return produced_all || !in_order.empty(); });
    if (in_order.empty()) return std::nullopt;
    std::future<Out> result = std::move(in_order.front());
    in_order.pop_front();
    changed.notify_all();
    return result;
  };

  std::vector<std::jthread> pool;
  const auto finish = [&] {
    {
      const std::lock_guard lock(mutex);
      stop = true;
      changed.notify_all();
    }
    pool.clear();  // joins
  };
  try {
    pool.emplace_back(producer);
    for (int i = 0; i < threads; ++i) pool.emplace_back(worker);
    while (auto result = next_result()) consume(result->get());
  } catch (...) {
    finish();
    throw;
  }
  finish();
}

}  // namespace moeut
