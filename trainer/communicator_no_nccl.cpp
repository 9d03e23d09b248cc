// For builds where CMake found no NCCL.
#include "core/error.h"
#include "trainer/communicator.h"

namespace moeut {

std::unique_ptr<Communicator> make_nccl_communicator(std::unique_ptr<Communicator>, Device) {
  throw BackendError(
      "this build has no NCCL, which several GPUs need: install NVIDIA's libnccl-dev and build anew; or set device: "
      "cpu");
}

bool has_nccl() {
  return false;
}

}  // namespace moeut
