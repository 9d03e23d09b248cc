#include <charconv>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "core/check.h"
#include "trainer/communicator.h"

namespace moeut {
namespace {

std::optional<int> number_in(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') return std::nullopt;
  int value = 0;
  const char* end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, value);
  require<ConfigError>(error == std::errc() && stop == end && value >= 0,
                       "the environment's {} is '{}' where a number was expected; unset it or start by mpirun", name,
                       text);
  return value;
}

/// The names that one launcher gives to the three numbers.
struct Names {
  const char *launcher, *rank, *size, *local_rank;
  bool by_mpi;
};

constexpr Names kOpenMpi{"mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", true};
constexpr Names kMpich{"mpiexec", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", true};
constexpr Names kSlurm{"srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", true};
constexpr Names kTorchrun{"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", false};

/// Nothing if this launcher has not started the process.
std::optional<Place> place_by(const Names& names) {
  const auto rank = number_in(names.rank), size = number_in(names.size);
  if (!rank || !size) return std::nullopt;
  require<ConfigError>(*rank < *size, "the environment's {} = {} and {} = {} do not fit together", names.rank, *rank,
                       names.size, *size);
  return Place{.rank = *rank,
               .size = *size,
               .local_rank = number_in(names.local_rank).value_or(0),
               .by_mpi = names.by_mpi,
               .launcher = names.launcher};
}

}  // namespace

Place find_place(const std::string& rendezvous) {
  const bool wants_mpi = rendezvous == "auto" || rendezvous == "mpi";
  for (const Names& names : {kOpenMpi, kMpich, kSlurm, kTorchrun}) {
    auto place = place_by(names);
    if (!place) continue;
    if (place->size == 1) return Place();
    place->by_mpi = place->by_mpi && wants_mpi;
    require<ConfigError>(place->by_mpi || !wants_mpi,
                         "{} has started {} processes, which train.rendezvous = {} cannot bring together; set it to "
                         "tcp:HOST:PORT or file:PATH, or start by mpirun",
                         names.launcher, place->size, rendezvous);
    return *place;
  }
  return Place();
}

}  // namespace moeut
