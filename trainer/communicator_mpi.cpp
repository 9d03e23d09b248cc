// Ranks by MPI: mpirun or srun starts them, MPI moves their bytes by shared memory or the network.
#define OMPI_SKIP_MPICXX 1
#include <mpi.h>

#include "core/check.h"
#include "trainer/communicator.h"

namespace moeut {
namespace {

/// MPI counts in int: longer messages go in parts.
constexpr size_t kMost = size_t{1} << 30;

template <class F>
void in_parts(size_t bytes, F&& f) {
  for (size_t begin = 0; begin < bytes; begin += kMost) f(begin, static_cast<int>(std::min(kMost, bytes - begin)));
}

/// MPI's default for an error is to end all processes with a message of its own, so that calls need no check.
class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator() {
    int provided = 0;
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
    require<BackendError>(provided >= MPI_THREAD_FUNNELED,
                          "MPI: this library cannot be used by a program with threads (level {})", provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  void all_gather(const void* own, size_t bytes, void* all) override {
    require<Error>(bytes < kMost, "MPI: {} bytes cannot be gathered at once", bytes);
    const auto count = static_cast<int>(bytes);
    MPI_Allgather(own, count, MPI_BYTE, all, count, MPI_BYTE, MPI_COMM_WORLD);
  }

  void broadcast(void* data, size_t bytes, int root) override {
    in_parts(bytes, [&](size_t begin, int count) {
      MPI_Bcast(static_cast<char*>(data) + begin, count, MPI_BYTE, root, MPI_COMM_WORLD);
    });
  }

  void exchange(std::span<const Message> sends, std::span<const Message> receives) override {
    std::vector<MPI_Request> requests;
    for (const Message& m : receives) {
      in_parts(m.bytes, [&](size_t begin, int count) {
        MPI_Irecv(static_cast<char*>(m.data) + begin, count, MPI_BYTE, m.peer, 0, MPI_COMM_WORLD,
                  &requests.emplace_back());
      });
    }
    for (const Message& m : sends) {
      in_parts(m.bytes, [&](size_t begin, int count) {
        MPI_Isend(static_cast<const char*>(m.data) + begin, count, MPI_BYTE, m.peer, 0, MPI_COMM_WORLD,
                  &requests.emplace_back());
      });
    }
    MPI_Waitall(static_cast<int>(requests.size()), requests.data(), MPI_STATUSES_IGNORE);
  }

  void close() override { MPI_Finalize(); }

 private:
  int rank_ = 0, size_ = 1;
};

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator() {
  return std::make_unique<MpiCommunicator>();
}

bool has_mpi() {
  return true;
}

}  // namespace moeut
