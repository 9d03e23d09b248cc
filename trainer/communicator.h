// The processes that train together. One seam, three implementations: a process alone (communicator_single.cpp), MPI
// between CPUs (communicator_mpi.cpp), NCCL between GPUs (communicator_nccl.cpp); CMake chooses what there is.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/backend.h"
#include "core/device.h"
#include "core/dtype.h"

namespace moeut {

/// Bytes in host memory for, or from, another rank.
struct Message {
  int peer = 0;
  void* data = nullptr;  ///< only read when it is sent
  size_t bytes = 0;
};

/// Sums and copies between the memories of GPUs, in the order of the streams they are queued in: nothing here waits,
/// and all of it may be recorded in a graph. Every rank gets the same bits.
class DeviceCollectives {
 public:
  virtual ~DeviceCollectives() = default;
  /// What is queued between the two may travel together.
  virtual void begin_group() = 0;
  virtual void end_group() = 0;
  /// data += that of all others, on every rank. f32, f64 or bf16 (products of a bf16 sum are rounded at every rank).
  virtual void sum(void* data, int64_t count, DType type, backend::StreamHandle stream) = 0;
  /// The same on `root` alone; what the others' data then holds is undefined.
  virtual void sum_to(int root, void* data, int64_t count, DType type, backend::StreamHandle stream) = 0;
  /// Everyone's data = root's.
  virtual void broadcast(int root, void* data, size_t bytes, backend::StreamHandle stream) = 0;
  /// Throws BackendError if the connection to another rank has failed. From any thread.
  virtual void check() = 0;
  /// From any thread: ends what is under way, lest this process waits for one that is gone.
  virtual void abort() noexcept = 0;
};

/// Everything but rank() and size() is collective: all ranks make the same calls in the same order, each from its main
/// thread.
class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  bool alone() const { return size() == 1; }
  bool leads() const { return rank() == 0; }

  /// `all` = everyone's `own`, size() times as many bytes, by rank.
  virtual void all_gather(const void* own, size_t bytes, void* all) = 0;
  /// Everyone's data = root's.
  virtual void broadcast(void* data, size_t bytes, int root) = 0;
  /// Sends and receives side by side. Between two ranks messages arrive in the order in which they are listed; both
  /// list the same sizes. Nobody lists itself.
  virtual void exchange(std::span<const Message> sends, std::span<const Message> receives) = 0;
  /// Null: data travel through host memory.
  virtual DeviceCollectives* device() { return nullptr; }
  /// Once everyone has come so far, and never again.
  virtual void close() {}

  // Made of these:
  void barrier();
  /// Everyone's text, by rank.
  std::vector<std::string> all_gather(const std::string& own);
  std::string broadcast(std::string text, int root);
  /// Everyone's value, by rank.
  template <class T>
  std::vector<T> all_gather_value(const T& own) {
    std::vector<T> all(static_cast<size_t>(size()));
    all_gather(&own, sizeof(T), all.data());
    return all;
  }
};

/// Where this process stands among those that were started together, as far as its environment tells.
struct Place {
  int rank = 0, size = 1;
  int local_rank = 0;      ///< among those of its host
  bool by_mpi = false;     ///< MPI_Init will find the others
  std::string launcher{};  ///< "mpirun", "srun", …: who said so
};
/// From what Open MPI, MPICH, Slurm or torchrun leave in the environment. `rendezvous`: train.rendezvous. Throws
/// ConfigError if the variables contradict each other.
Place find_place(const std::string& rendezvous);

std::unique_ptr<Communicator> make_single_communicator();
/// MPI_COMM_WORLD. Once in a process. Throws BackendError without MPI in this build.
std::unique_ptr<Communicator> make_mpi_communicator();
/// NCCL among all of `host`, each on its `device`; host memory travels by `host`. Throws BackendError without NCCL in
/// this build.
std::unique_ptr<Communicator> make_nccl_communicator(std::unique_ptr<Communicator> host, Device device);
/// For small things in host memory where no MPI brings the ranks together: a star of TCP connections through rank 0.
/// `rendezvous`: tcp:HOST:PORT, where rank 0 listens, or file:PATH, where it writes its address. Throws IoError after
/// `seconds` without the others.
std::unique_ptr<Communicator> make_tcp_communicator(const Place& place, const std::string& rendezvous,
                                                    double seconds = 300);
bool has_mpi();
bool has_nccl();

}  // namespace moeut
