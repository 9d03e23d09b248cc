// For builds where CMake found no MPI.
#include "core/error.h"
#include "trainer/communicator.h"

namespace moeut {

std::unique_ptr<Communicator> make_mpi_communicator() {
  throw BackendError("this build has no MPI: run scripts/install-deps, then build anew; or start one process");
}

bool has_mpi() {
  return false;
}

}  // namespace moeut
