// Ranks that are threads of the test, so that one process, and a sanitizer, sees all of them.
#pragma once

#include <barrier>
#include <cstring>
#include <exception>
#include <functional>
#include <thread>
#include <vector>

#include "trainer/communicator.h"

namespace moeut::testing {

/// What the ranks share. Barriers order everything: what is read after one was written before it.
class ThreadWorld {
 public:
  explicit ThreadWorld(int count) : size(count), barrier(count), posted(static_cast<size_t>(count)) {}

  const int size;
  std::barrier<> barrier;
  std::vector<std::vector<Message>> posted;  // by rank: what it sends
  const void* shared = nullptr;
  std::vector<const void*> own = std::vector<const void*>(static_cast<size_t>(size));
};

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(ThreadWorld& world, int rank) : world_(world), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return world_.size; }

  void all_gather(const void* own, size_t bytes, void* all) override {
    world_.own[static_cast<size_t>(rank_)] = own;
    world_.barrier.arrive_and_wait();
    for (size_t peer = 0; peer < world_.own.size(); ++peer)
      std::memcpy(static_cast<char*>(all) + peer * bytes, world_.own[peer], bytes);
    world_.barrier.arrive_and_wait();
  }

  void broadcast(void* data, size_t bytes, int root) override {
    if (rank_ == root) world_.shared = data;
    world_.barrier.arrive_and_wait();
    if (rank_ != root) std::memcpy(data, world_.shared, bytes);
    world_.barrier.arrive_and_wait();
  }

  /// What is sent to a rank and what it wants to receive must match, or the test ends.
  void exchange(std::span<const Message> sends, std::span<const Message> receives) override {
    world_.posted[static_cast<size_t>(rank_)].assign(sends.begin(), sends.end());
    world_.barrier.arrive_and_wait();
    std::vector<size_t> next(static_cast<size_t>(world_.size));
    for (const Message& wanted : receives) {
      const auto& from = world_.posted[static_cast<size_t>(wanted.peer)];
      size_t& at = next[static_cast<size_t>(wanted.peer)];
      while (at < from.size() && from[at].peer != rank_) ++at;
      if (at == from.size() || from[at].bytes != wanted.bytes) std::terminate();
      std::memcpy(wanted.data, from[at++].data, wanted.bytes);
    }
    world_.barrier.arrive_and_wait();
  }

 private:
  ThreadWorld& world_;
  int rank_;
};

/// work(communicator) on each of `size` ranks. An exception ends the program: the other ranks would wait for ever.
inline void run_ranks(int size, const std::function<void(Communicator&)>& work) {
  ThreadWorld world(size);
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank]() noexcept {
      ThreadCommunicator communicator(world, rank);
      work(communicator);
    });
  }
}

}  // namespace moeut::testing
