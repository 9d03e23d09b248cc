// A process alone.
#include <cstring>

#include "trainer/communicator.h"

namespace moeut {
namespace {

class SingleCommunicator final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void all_gather(const void* own, size_t bytes, void* all) override { std::memcpy(all, own, bytes); }
  void broadcast(void*, size_t, int) override {}
  void exchange(std::span<const Message>, std::span<const Message>) override {}
};

}  // namespace

std::unique_ptr<Communicator> make_single_communicator() {
  return std::make_unique<SingleCommunicator>();
}

}  // namespace moeut
